"""The thread that owns a SQLite store's connection, and commits many jobs at once."""

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from causalrn.server.errors import ServiceError, StoreUnavailableError
from causalrn.server.sessions.store.availability import Availability
from causalrn.server.sessions.store.refusals import unavailable
from causalrn.server.sessions.store.sqlite_file import SqliteFile
from causalrn.server.sessions.store.steady_clock import SteadyClock

_JOBS_PER_COMMIT = 32
_SHRINK_PAGES = 2048  # of 4 KiB, removed from the file at a time
_NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)  # the second where a file may not grow

# What is wrong, and what to do about it, by SQLite's primary result code.
_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space",
    sqlite3.SQLITE_IOERR: "its file cannot be read or written; look at the disk",
    sqlite3.SQLITE_READONLY: "its file is read-only; make it writable",
    sqlite3.SQLITE_CANTOPEN: "its file cannot be opened; look at its permissions",
    sqlite3.SQLITE_PERM: "its file cannot be opened; look at its permissions",
    sqlite3.SQLITE_CORRUPT: "its file is damaged; restore a copy, or try `.recover` of sqlite3",
    sqlite3.SQLITE_NOTADB: "its file is damaged; restore a copy, or try `.recover` of sqlite3",
    sqlite3.SQLITE_BUSY: "another program has locked its file; end that",
    sqlite3.SQLITE_LOCKED: "another program has locked its file; end that",
}
T = TypeVar("T")


@dataclass
class Transaction:
    """What a job works on.

    Attributes:
        db: within a transaction, which the thread begins and ends.
        leases: which sessions are leased to a turn, by id, and until when, in seconds of the
            monotonic clock. They end with the process, so they are not written to the file; but
            they are committed, or not, together with the rest.
        clock: the store's. It, too, is changed together with the rest.
        wrote: set when something was written that changes no row.
    """

    db: sqlite3.Connection
    leases: dict[str, float]
    clock: SteadyClock
    wrote: bool = False


Job = Callable[[Transaction], T]
"""Runs on the thread, maybe more than once. May raise a `ServiceError` before any change."""


@dataclass(eq=False)
class _Task:
    job: Job[Any]
    writes: bool
    frees: bool
    future: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None

    def deliver(self) -> None:
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class _OneFailedError(Exception):
    pass


class SqliteThread:
    """Runs jobs in the order in which they come.

    All jobs that wait share the next transaction, and so one wait for the disk.

    Args:
        file: opened when the first job comes.
        name: of the store, for the log.

    Attributes:
        availability: whether it works.
        clock: the store's.
    """

    def __init__(self, file: SqliteFile, name: str) -> None:
        self.clock = SteadyClock()
        self._file = file
        self.availability = Availability(name)
        self._mail = threading.Condition()
        self._waiting: list[_Task] = []
        self._stopping = False
        self._thread: threading.Thread | None = None
        # The rest belongs to the thread.
        self._connection: sqlite3.Connection | None = None
        self._suspicious = False  # whether a new connection may work better
        self._leases: dict[str, float] = {}

    @property
    def runs(self) -> bool:
        """Whether it has had a job since it was last stopped."""
        return self._thread is not None

    def run(self, job: Job[T], *, writes: bool, frees: bool = False) -> asyncio.Future[T]:
        """Have a job done.

        Args:
            job: to do.
            writes: whether it may write.
            frees: whether it makes room on the disk, so that it must be done when that is full.

        Returns:
            Its result, once that is committed; or a `ServiceError`, which is a
            `StoreUnavailableError` if the system or SQLite refused.
        """
        task = _Task(job, writes, frees, asyncio.get_running_loop().create_future())
        with self._mail:
            self._waiting.append(task)
            self._mail.notify()
            if self._thread is None:
                self._stopping = False
                self._thread = threading.Thread(
                    target=self._main, name="session-store", daemon=True
                )
                self._thread.start()
        return task.future

    async def stop(self) -> None:
        """Finish the jobs that wait, and let go of the file; idempotent."""
        with self._mail:
            thread, self._thread = self._thread, None
            self._stopping = True
            self._mail.notify()
        if thread is not None:
            await asyncio.to_thread(thread.join)

    def _main(self) -> None:
        try:
            while tasks := self._take():
                self._serve(tasks)
                with contextlib.suppress(RuntimeError):  # the event loop is closed; nobody waits
                    tasks[0].future.get_loop().call_soon_threadsafe(_deliver, tasks)
        finally:
            self._disconnect()
            self._file.unlock()
            self._leases.clear()

    def _take(self) -> list[_Task]:
        """Wait for jobs, and take them; none when it is time to end."""
        with self._mail:
            while not self._waiting and not self._stopping:
                self._mail.wait()
            tasks = self._waiting[:_JOBS_PER_COMMIT]
            del self._waiting[:_JOBS_PER_COMMIT]
        return tasks

    def _serve(self, tasks: list[_Task]) -> None:
        """Give every task its result or error."""
        try:
            wrote = self._commit(tasks)
        except _OneFailedError:
            for task in tasks:
                self._serve([task])
        except Exception as error:
            failed = [task for task in tasks if task.writes] or tasks
            freeing = [task for task in failed if task.frees]
            if freeing and _code(error) in _NO_ROOM and self._file.reserve.spend():
                self._serve(freeing)
                self._regain_reserve()
                failed = [task for task in failed if not task.frees]
            else:
                freeing = []
            for task in failed:
                task.error = self._explain(error, task.writes)
            # It may still be possible to read.
            if rest := [task for task in tasks if task not in failed + freeing]:
                self._serve(rest)
        else:
            self.availability.works(writing=wrote)

    def _commit(self, tasks: list[_Task]) -> bool:
        """Do all of them, or none.

        Returns:
            Whether anything was written: a full disk holds nobody up who writes nothing.

        Raises:
            _OneFailedError: one of several failed, and the others need not.
            Exception: there is only one, or no single job is at fault.
        """
        writes = any(task.writes for task in tasks)
        try:
            draft = Transaction(self._connect(), dict(self._leases), self.clock)
            n_changes = draft.db.total_changes
            draft.db.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            for task in tasks:
                task.error = None
                try:
                    task.result = task.job(draft)
                except ServiceError as error:
                    task.error = error
                except Exception as error:
                    if len(tasks) > 1:
                        raise _OneFailedError from error
                    raise
            draft.db.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        self._leases, self.clock = draft.leases, draft.clock
        return draft.wrote or draft.db.total_changes > n_changes

    def _regain_reserve(self) -> None:
        """Give what was freed back to the file system, and take the reserve from it again."""
        with contextlib.suppress(sqlite3.Error, OSError):
            db = self._connect()
            shrink(db)
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._file.reserve.keep()

    def _connect(self) -> sqlite3.Connection:
        old = self._connection
        if old is None or self._suspicious:
            try:
                self._connection = self._file.connect()
            except (sqlite3.Error, OSError):
                if old is None:  # else that may do; when the disk is full, it can still read
                    raise
            else:
                self._suspicious = False
                if old is not None:
                    old.close()
        self._file.check_still_there()
        assert self._connection is not None
        return self._connection

    def _roll_back(self) -> None:
        self._suspicious = True
        try:
            if self._connection is not None and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _explain(self, error: Exception, writes: bool) -> Exception:
        """What the caller is told."""
        lasting = False
        if isinstance(error, StoreUnavailableError):
            reason, answer = error.message, error
        elif isinstance(error, sqlite3.Error | OSError | UnicodeDecodeError):
            reason = _reason(error)
            answer = unavailable(reason)
            # Of a file that can be opened, other sessions may be sound.
            lasting = _code(error) == sqlite3.SQLITE_CORRUPT and self._connection is not None
        else:
            return error
        detail = f"{self._file.path}: {type(error).__name__}: {error}"
        self.availability.fails(reason, detail, writing=writes, lasting=lasting)
        return answer


def shrink(db: sqlite3.Connection) -> None:
    """Give pages of the file that are not needed back to the file system."""
    (n_free,) = db.execute("PRAGMA freelist_count").fetchone()
    for _ in range(min(n_free, _SHRINK_PAGES)):
        db.execute("PRAGMA incremental_vacuum(1)")  # for more, Python gives up after the first


def _deliver(tasks: list[_Task]) -> None:
    for task in tasks:
        task.deliver()


def _code(error: BaseException) -> int:
    """SQLite's primary result code; 0 for an error of something else."""
    if isinstance(error, UnicodeDecodeError):  # of a text in the file, or of SQLite's about it
        return sqlite3.SQLITE_CORRUPT
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return _REASONS.get(_code(error), f"SQLite says: {error}")
