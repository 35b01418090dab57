"""The session store of a single server: a SQLite file."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

from causalrn.server.errors import ServiceError, StartupError, StoreUnavailableError
from causalrn.server.sessions.store import refusals
from causalrn.server.sessions.store import sqlite_rows as rows
from causalrn.server.sessions.store.base import Append, SessionRecord, could_be_id
from causalrn.server.sessions.store.settle import forget, settle
from causalrn.server.sessions.store.sqlite_file import SqliteFile, touch
from causalrn.server.sessions.store.sqlite_thread import Job, SqliteThread, T, Transaction, shrink
from causalrn.server.sessions.store.token_log import LogEnd

_SWEEP_SESSIONS = 32  # removed by one commit, so that others need not wait long
_LEAST_STEP = 1.0  # second by which the machine's clock must be set to be followed


class SqliteStore:
    """A store in one file, which one server process has to itself; see `SessionStore`.

    Args:
        path: of the file; it and its folders are created if they are missing.
        lease_seconds: how long a lease lasts without `renew`.
    """

    def __init__(self, path: Path, *, lease_seconds: float) -> None:
        self._lease_seconds = lease_seconds
        self._file = SqliteFile(path)
        self._thread = SqliteThread(self._file, f"the session store {path}")
        self._closed = False

    async def open(self) -> None:
        """See `SessionStore.open`."""
        self._closed = False
        try:
            with contextlib.suppress(OSError):  # which comes again in a moment
                await asyncio.to_thread(self._file.lock)
        except StoreUnavailableError as error:
            raise StartupError(error.message) from None
        await self._run(lambda _: None, writes=False)

    def check_ready(self) -> None:
        """See `SessionStore.check_ready`."""
        self._thread.availability.check()

    async def close(self) -> None:
        """See `SessionStore.close`."""
        if self._thread.runs:
            with contextlib.suppress(ServiceError):
                await self._run(_end_turns, writes=True)
        self._closed = True
        await self._thread.stop()

    async def now(self) -> float:
        """See `SessionStore.now`."""
        return self._thread.clock.now()

    async def create(
        self,
        record: SessionRecord,
        token_ids: Sequence[int],
        limit: int,
        owner_limit: int | None = None,
    ) -> None:
        """See `SessionStore.create`."""
        end, pieces = LogEnd().extend(token_ids)
        values = {
            "id": record.id,
            "model": record.model,
            "fingerprint": record.fingerprint,
            "n_tokens": end.n_tokens,
            "crc": end.crc,
            "created_at": record.created_at,
            "used_at": record.used_at,
            "ttl": record.ttl,
            "expires_at": record.expires_at,
            "owner": record.owner,
        }

        def job(tx: Transaction) -> None:
            if rows.count(tx) >= limit:
                raise refusals.too_many(limit)
            if owner_limit is not None and rows.count(tx, record.owner) >= owner_limit:
                raise refusals.too_many(owner_limit, record.owner)
            if rows.find(tx, record.id) is not None:
                raise refusals.exists(record.id)
            tx.db.execute("DELETE FROM sessions WHERE id = :id", values)  # if it has expired
            cursor = tx.db.execute(
                f"INSERT INTO sessions ({', '.join(values)}) "
                f"VALUES ({', '.join(f':{name}' for name in values)})",
                values,
            )
            assert cursor.lastrowid is not None
            rows.add_pieces(tx, cursor.lastrowid, pieces)

        await self._run(job, writes=True)

    async def get(self, id: str) -> SessionRecord:
        """See `SessionStore.get`."""
        return await self._run(lambda tx: rows.get(tx, id).record, writes=False)

    async def read(self, id: str) -> tuple[SessionRecord, list[int]]:
        """See `SessionStore.read`."""

        def job(tx: Transaction) -> tuple[SessionRecord, list[int]]:
            found = rows.get(tx, id)
            blocks = tx.db.execute(
                "SELECT ids FROM blocks WHERE session = ? ORDER BY number", (found.key,)
            )
            return found.record, found.end.decode(ids for (ids,) in blocks)

        return await self._run(job, writes=False)

    async def begin(self, id: str, start: int, token_ids: Sequence[int]) -> None:
        """See `SessionStore.begin`."""

        def job(tx: Transaction) -> None:
            found = rows.get(tx, id)
            if found.record.busy:
                raise refusals.busy(id)
            if found.end.n_tokens != start:
                raise refusals.moved(id, found.end.n_tokens, start)
            rows.extend(tx, found, token_ids)
            rows.use(tx, found.key, max(found.record.ttl, self._lease_seconds))
            tx.leases[id] = self._lease_end()

        await settle(self._start(job, writes=True), undo=lambda: self._give_back(id))

    async def append(self, appends: Sequence[Append]) -> list[ServiceError | None]:
        """See `SessionStore.append`."""

        def job(tx: Transaction) -> list[ServiceError | None]:
            return [_append(tx, append) for append in appends]

        return await self._run(job, writes=True)

    async def renew(self, ids: Sequence[str]) -> None:
        """See `SessionStore.renew`."""

        def job(tx: Transaction) -> None:
            if not self._thread.availability.can_write():
                touch(tx.db)  # nobody may ask for more before this server is ready again
                tx.wrote = True
            now = tx.clock.now()
            for id in tx.leases.keys() & set(ids):
                tx.leases[id] = self._lease_end()
                # This mostly changes nothing, and then writes nothing.
                tx.db.execute(
                    "UPDATE sessions SET expires_at = :end "
                    f"WHERE id = :id AND {rows.ALIVE} AND expires_at < :end",
                    {"id": id, "now": now, "end": now + self._lease_seconds},
                )

        await self._run(job, writes=True)

    async def replace(self, record: SessionRecord, token_ids: Sequence[int]) -> None:
        """See `SessionStore.replace`."""

        def job(tx: Transaction) -> None:
            found = rows.get(tx, record.id)
            if found.record.busy:
                raise refusals.busy(record.id)
            tx.leases.pop(record.id, None)
            tx.db.execute("DELETE FROM blocks WHERE session = ?", (found.key,))
            rows.extend(tx, found._replace(end=LogEnd()), token_ids)
            tx.db.execute(
                "UPDATE sessions SET model = ?, fingerprint = ?, ttl = ? WHERE key = ?",
                (record.model, record.fingerprint, record.ttl, found.key),
            )
            rows.use(tx, found.key, record.ttl)

        await self._run(job, writes=True)

    async def delete(self, id: str) -> None:
        """See `SessionStore.delete`."""

        def job(tx: Transaction) -> None:
            tx.db.execute("DELETE FROM sessions WHERE key = ?", (rows.get(tx, id).key,))
            tx.leases.pop(id, None)

        await self._run(job, writes=True, frees=True)

    async def sweep(self) -> int:
        """See `SessionStore.sweep`."""
        await self._run(self._follow_clock, writes=True)
        n_swept = 0
        while n := await self._run(_sweep, writes=True, frees=True):
            n_swept += n
        await self._run(lambda tx: shrink(tx.db), writes=True)
        await asyncio.to_thread(self._file.reserve.keep)
        return n_swept

    async def count(self, owner: str | None = None) -> int:
        """See `SessionStore.count`."""
        return await self._run(lambda tx: rows.count(tx, owner), writes=False)

    async def list(
        self, after: str | None, limit: int, owner: str | None = None
    ) -> list[SessionRecord]:
        """See `SessionStore.list`."""
        after = after or ""
        if not could_be_id(after):
            return []

        def job(tx: Transaction) -> list[SessionRecord]:
            found = tx.db.execute(
                f"SELECT {rows.COLUMNS} FROM sessions WHERE id > :after AND {rows.ALIVE}"
                f"{rows.of(owner)} ORDER BY id LIMIT :limit",
                {"after": after, "now": tx.clock.now(), "limit": limit, "owner": owner},
            )
            return [rows.parse(tx, row).record for row in found]

        return await self._run(job, writes=False)

    async def _run(self, job: Job[T], *, writes: bool, frees: bool = False) -> T:
        return await settle(self._start(job, writes=writes, frees=frees))

    def _start(self, job: Job[T], *, writes: bool, frees: bool = False) -> asyncio.Future[T]:
        if self._closed:
            raise refusals.unavailable("it is closed")
        return self._thread.run(job, writes=writes, frees=frees)

    def _give_back(self, id: str) -> None:
        """End a turn that nobody else will end."""
        if not self._closed:
            forget(self._start(lambda tx: tx.leases.pop(id, None), writes=False))

    def _follow_clock(self, tx: Transaction) -> None:
        """Follow the machine's clock, and leave every session the time that it has left."""
        step = tx.clock.step()
        if abs(step) < _LEAST_STEP:
            return
        values = {"step": step, "now": tx.clock.now(), "lease": self._lease_seconds}
        tx.db.execute(
            "UPDATE sessions SET used_at = min(used_at, :now) + :step, "
            "expires_at = min(expires_at, :now + max(ttl, :lease)) + :step "
            f"WHERE {rows.ALIVE}",
            values,
        )
        tx.clock = tx.clock.stepped(step)

    def _lease_end(self) -> float:
        return time.monotonic() + self._lease_seconds


def _append(tx: Transaction, append: Append) -> ServiceError | None:
    found = rows.find(tx, append.id)
    if found is None:
        return refusals.not_found(append.id)
    if append.id not in tx.leases:
        return refusals.lost(append.id)
    if found.end.n_tokens != append.start:
        return refusals.moved(append.id, found.end.n_tokens, append.start)
    rows.extend(tx, found, append.token_ids)
    if append.done:
        del tx.leases[append.id]
        rows.use(tx, found.key, found.record.ttl)
    return None


def _sweep(tx: Transaction) -> int:
    expired = tx.db.execute(
        "DELETE FROM sessions WHERE key IN "
        f"(SELECT key FROM sessions WHERE NOT {rows.ALIVE} LIMIT :limit) RETURNING id",
        {"now": tx.clock.now(), "limit": _SWEEP_SESSIONS},
    ).fetchall()
    for (id,) in expired:
        tx.leases.pop(id, None)
    return len(expired)


def _end_turns(tx: Transaction) -> None:
    for id in tx.leases:
        if (found := rows.find(tx, id)) is not None:
            rows.use(tx, found.key, found.record.ttl)
    tx.leases.clear()
