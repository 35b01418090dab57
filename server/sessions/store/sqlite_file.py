"""The file of a SQLite store: who may use it, and whether it is what it should be."""

import contextlib
import fcntl
import os
import sqlite3
import tempfile
import threading
from pathlib import Path

from causalrn.server.errors import StoreUnavailableError
from causalrn.server.sessions.store.disk_reserve import DiskReserve

_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
_APPLICATION_ID = 0x43524E53  # "CRNS"; in the file's header, where other programs find it
_VERSION = 3
_BUSY_SECONDS = 3.0  # to wait for a tool that has locked the database, such as one that copies it
_RESERVE_BYTES = 1024 * 1024  # enough to delete a session of a million tokens
_LOG_BYTES = 16 * 1024 * 1024  # that an empty write-ahead log may keep on disk

_SCHEMA = f"""
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_VERSION};
CREATE TABLE sessions (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    model TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    n_tokens INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    created_at REAL NOT NULL,
    used_at REAL NOT NULL,
    ttl REAL NOT NULL,
    expires_at REAL NOT NULL, -- later than used_at + ttl while a turn needs it
    owner TEXT NOT NULL DEFAULT '' -- name of the API key that made it, if one did
);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);
CREATE INDEX sessions_by_owner ON sessions (owner, id);
CREATE TABLE blocks (
    session INTEGER NOT NULL REFERENCES sessions (key) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    ids BLOB NOT NULL CHECK (typeof(ids) = 'blob'),
    PRIMARY KEY (session, number)
);
"""

# How a file of each version becomes one of the next.
_MIGRATIONS = {
    1: (
        "ALTER TABLE sessions ADD COLUMN belongs_to TEXT NOT NULL DEFAULT ''",
        "CREATE INDEX sessions_by_owner ON sessions (belongs_to, id)",
    ),
    2: ("ALTER TABLE sessions RENAME COLUMN belongs_to TO owner",),
}


class SqliteFile:
    """A database file that belongs to this process as long as it has locked it.

    A file that is not what it should be is left alone. Only `lock` and `unlock` may be called
    from more than one thread.

    Args:
        path: of the file, which need not exist.

    Attributes:
        path: as above, without links once it was opened.
        reserve: room that is kept beside it, so that sessions can be deleted when the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reserve = DiskReserve(path.with_name(f"{path.name}.reserve"), _RESERVE_BYTES)
        self._locking = threading.Lock()
        self._lock: int | None = None
        self._identity: tuple[int, int] | None = None  # of the file that was opened first

    def connect(self) -> sqlite3.Connection:
        """Lock the file, create it if this is the first time, and open it.

        Raises:
            StoreUnavailableError: another server uses it, or it is no file of a session store.
            OSError, sqlite3.Error: the system or SQLite refuses it.
        """
        self.lock()
        if self._identity is None:
            if not self.path.exists() or self.path.stat().st_size == 0:
                _check_no_remains(self.path)
                _create(self.path)
            self._identity = self._identify()
            self.reserve.keep()
        self.check_still_there()
        _check_header(self.path)
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?mode=rw", uri=True, timeout=_BUSY_SECONDS, isolation_level=None
        )
        try:
            _prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def lock(self) -> None:
        """Lock the file for this process, if it has not done that yet.

        Raises:
            StoreUnavailableError: another process has locked it.
            OSError: the system refuses it.
        """
        with self._locking:
            if self._lock is None:
                self.path = self.path.resolve()  # one lock, whichever link leads here
                _make_folder(self.path.parent)
                self._lock = _lock(self.path.with_name(f"{self.path.name}.lock"))

    def check_still_there(self) -> None:
        """Notice when the file was removed or replaced.

        SQLite would go on with the old one, and what it commits would be lost.

        Raises:
            StoreUnavailableError: there is another file in its place, or none.
        """
        if self._identify() != self._identity:
            raise StoreUnavailableError(
                "the file of the session store was removed or replaced; restart the server to use "
                "what is there now"
            )

    def unlock(self) -> None:
        """Let other processes have the file; idempotent."""
        if self._lock is not None:
            os.close(self._lock)
        self._lock = self._identity = None

    def _identify(self) -> tuple[int, int] | None:
        with contextlib.suppress(FileNotFoundError):
            found = self.path.stat()
            return found.st_dev, found.st_ino
        return None


def touch(connection: sqlite3.Connection) -> None:
    """Write to the file what it says already, to see whether that works."""
    connection.execute(f"PRAGMA user_version = {_VERSION}")


def _make_folder(path: Path) -> None:
    """Create a folder and its parents so that they outlast a crash of the machine."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _lock(path: Path) -> int:
    """The descriptor that holds the lock.

    The system lets go of it however the process ends. The file stays when the lock is gone: were it
    removed, two processes could each lock one.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        pid = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        if not isinstance(error, BlockingIOError):
            raise
        raise StoreUnavailableError(
            f"another server process (pid {pid}) uses the session store {path.with_suffix('')}, "
            "which only one can: start one process, without --workers, or set "
            "CAUSALRN_SESSION_STORE to another file, or to PostgreSQL for several servers"
        ) from None
    with contextlib.suppress(OSError):  # only for the message above
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _check_no_remains(path: Path) -> None:
    """Make sure that a missing or empty file has never been a database.

    Raises:
        StoreUnavailableError: SQLite's logs of it are there; it would replay them into a new one.
    """
    for end in ("-wal", "-journal"):
        log = path.with_name(f"{path.name}{end}")
        if log.exists() and log.stat().st_size:
            raise StoreUnavailableError(
                "the file of the session store is missing or empty, but SQLite's log beside it is "
                "not; put the file back, or move the log away to begin anew"
            )


def _create(path: Path) -> None:
    """Put an empty database in place, as a whole or not at all."""
    with contextlib.closing(sqlite3.connect(":memory:")) as memory:
        memory.executescript(_SCHEMA)
        image = memory.serialize()
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(image)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_header(path: Path) -> None:
    """Look at a file before SQLite does, which may write to whatever is a database.

    Raises:
        StoreUnavailableError: it is not the file of a session store.
    """
    with path.open("rb+") as file:  # SQLite would be content with a file that it can only read
        header = file.read(_HEADER_BYTES)
    if not header.startswith(_MAGIC):
        raise StoreUnavailableError(
            "the file of the session store is not a SQLite database, or its beginning is damaged; "
            "it was left as it is"
        )
    if int.from_bytes(header[68:72], "big") != _APPLICATION_ID:
        raise StoreUnavailableError(
            "the file of the session store is a database of another application; it was left as "
            "it is"
        )
    _check_version(int.from_bytes(header[60:64], "big"))


def _check_version(version: int) -> None:
    if version != _VERSION and version not in _MIGRATIONS:
        raise StoreUnavailableError(
            f"the file of the session store has version {version}, and this server knows versions "
            f"up to {_VERSION}; it was left as it is"
        )


def _prepare(connection: sqlite3.Connection) -> None:
    """Check the version, bring the file up to it, and set what SQLite does not keep in the file.

    Raises:
        StoreUnavailableError: a later version of this program wrote it, or it cannot be logged.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    _check_version(version)  # again: a change may still be in the write-ahead log
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreUnavailableError(
            "the file system of the session store cannot hold a SQLite write-ahead log; use a "
            "local one"
        )
    connection.execute("PRAGMA synchronous = FULL")  # every commit is on the disk
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA cell_size_check = ON")  # finds damage before it spreads
    connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
    if version != _VERSION:
        _migrate(connection, version)


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring a file of an earlier version up to this one, as a whole or not at all."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for old in range(version, _VERSION):
            for statement in _MIGRATIONS[old]:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back already
            connection.execute("ROLLBACK")
        raise
