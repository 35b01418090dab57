"""The session store that any number of servers share: a PostgreSQL database."""

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import psycopg

from causalrn.server.errors import ServiceError, StoreUnavailableError
from causalrn.server.sessions.store import postgres_rows as rows
from causalrn.server.sessions.store import refusals
from causalrn.server.sessions.store.availability import Availability
from causalrn.server.sessions.store.base import Append, SessionRecord, could_be_id
from causalrn.server.sessions.store.postgres_connections import Connection, PostgresConnections
from causalrn.server.sessions.store.postgres_errors import is_lasting, reason
from causalrn.server.sessions.store.postgres_rows import ALIVE, COLUMNS, NOW, Changes, Found
from causalrn.server.sessions.store.postgres_schema import LOCK, prepare
from causalrn.server.sessions.store.settle import forget, settle
from causalrn.server.sessions.store.token_log import LogEnd

T = TypeVar("T")

_SWEEP_SESSIONS = 32  # removed by one commit

_CREATE = """
WITH made AS (
    INSERT INTO causalrn_sessions
        (id, model, fingerprint, n_tokens, crc, created_at, used_at, ttl, expires_at, owner)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING key
)
INSERT INTO causalrn_blocks (session, number, ids)
SELECT key, number, ids FROM made, unnest(%s::integer[], %s::bytea[]) AS pieces (number, ids)
"""
_READ = f"""
SELECT {COLUMNS},
    (SELECT string_agg(ids, ''::bytea ORDER BY number) FROM causalrn_blocks WHERE session = key)
FROM causalrn_sessions WHERE id = %s AND {ALIVE}
"""
_RENEW = f"""
UPDATE causalrn_sessions SET
    lease_until = {NOW} + %(seconds)s,
    expires_at = greatest(expires_at, {NOW} + %(seconds)s)
WHERE id = ANY(%(ids)s) AND lease = ANY(%(leases)s) AND {ALIVE}
"""
_SWEEP = f"""
DELETE FROM causalrn_sessions WHERE key IN (
    SELECT key FROM causalrn_sessions WHERE NOT {ALIVE} LIMIT %s FOR UPDATE SKIP LOCKED
)
"""


class PostgresStore:
    """A store that several servers may share; see `SessionStore`.

    A lease has an id of its own, and ends at a time of the database's clock. When another turn
    leases the session after that, nothing can be appended under the old lease any more.

    Args:
        url: the database's URL.
        lease_seconds: how long a lease lasts without `renew`.
        answer_seconds: how long the database may take for a transaction.

    Raises:
        StartupError: the URL is not valid.
    """

    def __init__(self, url: str, *, lease_seconds: float, answer_seconds: float = 5.0) -> None:
        self._lease_seconds = lease_seconds
        self._connections = PostgresConnections(url, answer_seconds=answer_seconds)
        self._availability = Availability("the session store in PostgreSQL")
        self._leases: dict[str, uuid.UUID] = {}  # of running turns, by session
        # The sessions of leases that nobody uses, but that may be in the database: of a `begin`
        # that was cancelled, or that may or may not have been committed.
        self._stray: dict[uuid.UUID, str] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ready = False
        self._closed = False

    async def open(self) -> None:
        """See `SessionStore.open`."""
        self._closed = self._ready = False
        await self._run(rows.count)

    def check_ready(self) -> None:
        """See `SessionStore.check_ready`."""
        self._availability.check()

    async def close(self) -> None:
        """See `SessionStore.close`."""
        self._closed = True
        while self._tasks:
            await asyncio.wait(self._tasks)
        leases = self._stray | {lease: id for id, lease in self._leases.items()}
        if leases:
            with contextlib.suppress(ServiceError):
                await self._attempt(lambda db: rows.give_back(db, leases), writes=True)
        self._leases.clear()
        self._stray.clear()
        await self._connections.close_idle()

    async def now(self) -> float:
        """See `SessionStore.now`."""
        return await self._run(rows.now)

    async def create(
        self,
        record: SessionRecord,
        token_ids: Sequence[int],
        limit: int,
        owner_limit: int | None = None,
    ) -> None:
        """See `SessionStore.create`."""
        end, pieces = LogEnd().extend(token_ids)

        async def work(db: Connection) -> None:
            # No other server may add one until this one is counted.
            await db.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            if await rows.count(db) >= limit:
                raise refusals.too_many(limit)
            if owner_limit is not None and await rows.count(db, record.owner) >= owner_limit:
                raise refusals.too_many(owner_limit, record.owner)
            if await rows.find(db, [record.id]):
                raise refusals.exists(record.id)
            # It may still be there, expired.
            await db.execute("DELETE FROM causalrn_sessions WHERE id = %s", (record.id,))
            values = (
                *(record.id, record.model, record.fingerprint, *end),
                *(record.created_at, record.used_at, record.ttl, record.expires_at, record.owner),
                *([number for number, _ in pieces], [data for _, data in pieces]),
            )
            await db.execute(_CREATE, values)

        await self._run(work, writes=True)

    async def get(self, id: str) -> SessionRecord:
        """See `SessionStore.get`."""
        return (await self._run(lambda db: rows.get(db, id))).record

    async def read(self, id: str) -> tuple[SessionRecord, list[int]]:
        """See `SessionStore.read`."""
        if not could_be_id(id):
            raise refusals.not_found(id)

        async def work(db: Connection) -> tuple[SessionRecord, list[int]]:
            row = await (await db.execute(_READ, (id,), binary=True)).fetchone()
            if row is None:
                raise refusals.not_found(id)
            found = rows.parse(row[:-1])
            return found.record, found.end.decode([row[-1] or b""])

        return await self._run(work)

    async def begin(self, id: str, start: int, token_ids: Sequence[int]) -> None:
        """See `SessionStore.begin`."""
        lease = uuid.uuid4()
        to_commit = False

        async def work(db: Connection) -> None:
            nonlocal to_commit
            found = await self._get_free(db, id)
            if found.end.n_tokens != start:
                raise refusals.moved(id, found.end.n_tokens, start)
            changes = Changes()
            changes.add(found, token_ids, lease=lease, used=True)
            await changes.make(db, self._lease_seconds)
            to_commit = True

        async def take() -> None:
            try:
                await self._attempt(work, writes=True)
            except StoreUnavailableError:
                if to_commit:
                    self._stray[lease] = id
                raise
            self._leases[id] = lease

        await settle(self._start(take()), undo=lambda: self._give_back(id, lease))

    async def append(self, appends: Sequence[Append]) -> list[ServiceError | None]:
        """See `SessionStore.append`."""

        async def work(db: Connection) -> list[ServiceError | None]:
            locked = await rows.find(db, [append.id for append in appends], lock=True)
            sessions = {found.record.id: found for found in locked}
            changes, outcomes = Changes(), list[ServiceError | None]()
            for append in appends:
                found = sessions.get(append.id)
                if found is None:
                    outcomes.append(refusals.not_found(append.id))
                elif found.lease is None or found.lease != self._leases.get(append.id):
                    outcomes.append(refusals.lost(append.id))
                elif found.end.n_tokens != append.start:
                    outcomes.append(refusals.moved(append.id, found.end.n_tokens, append.start))
                else:
                    lease = None if append.done else found.lease
                    sessions[append.id] = changes.add(
                        found, append.token_ids, lease=lease, used=append.done
                    )
                    outcomes.append(None)
            await changes.make(db, self._lease_seconds)
            return outcomes

        outcomes = await self._run(work, writes=True)
        for append, error in zip(appends, outcomes, strict=True):
            if append.done and error is None:
                self._leases.pop(append.id, None)
        return outcomes

    async def renew(self, ids: Sequence[str]) -> None:
        """See `SessionStore.renew`."""
        leases = {id: self._leases[id] for id in ids if id in self._leases}
        values = {
            "seconds": self._lease_seconds,
            "ids": list(leases),
            "leases": list(leases.values()),
        }
        stray = dict(self._stray)

        async def work(db: Connection) -> None:
            await db.execute(_RENEW, values)
            await rows.give_back(db, stray)

        await self._run(work, writes=True)
        for lease in stray:
            self._stray.pop(lease, None)

    async def replace(self, record: SessionRecord, token_ids: Sequence[int]) -> None:
        """See `SessionStore.replace`."""

        async def work(db: Connection) -> None:
            found = await self._get_free(db, record.id)
            await db.execute("DELETE FROM causalrn_blocks WHERE session = %s", (found.key,))
            await db.execute(
                "UPDATE causalrn_sessions SET model = %s, fingerprint = %s, ttl = %s "
                "WHERE key = %s",
                (record.model, record.fingerprint, record.ttl, found.key),
            )
            changes = Changes()
            changes.add(found._replace(end=LogEnd()), token_ids, lease=None, used=True)
            await changes.make(db, self._lease_seconds)

        await self._run(work, writes=True)

    async def delete(self, id: str) -> None:
        """See `SessionStore.delete`."""

        async def work(db: Connection) -> None:
            found = await rows.get(db, id, lock=True)
            await db.execute("DELETE FROM causalrn_sessions WHERE key = %s", (found.key,))

        await self._run(work, writes=True)
        self._leases.pop(id, None)

    async def sweep(self) -> int:
        """See `SessionStore.sweep`."""

        async def work(db: Connection) -> int:
            return (await db.execute(_SWEEP, (_SWEEP_SESSIONS,))).rowcount

        n_swept = 0
        while n := await self._run(work, writes=True):
            n_swept += n
        return n_swept

    async def count(self, owner: str | None = None) -> int:
        """See `SessionStore.count`."""
        return await self._run(lambda db: rows.count(db, owner))

    async def list(
        self, after: str | None, limit: int, owner: str | None = None
    ) -> list[SessionRecord]:
        """See `SessionStore.list`."""
        after = after or ""
        if not could_be_id(after):
            return []

        async def work(db: Connection) -> list[SessionRecord]:
            query = (
                f"SELECT {COLUMNS} FROM causalrn_sessions WHERE id > %(after)s AND {ALIVE}"
                f"{rows.of(owner)} ORDER BY id LIMIT %(limit)s"
            )
            cursor = await db.execute(query, {"after": after, "limit": limit, "owner": owner})
            return [rows.parse(row).record for row in await cursor.fetchall()]

        return await self._run(work)

    async def _get_free(self, db: Connection, id: str) -> Found:
        """Find and lock a session that no turn has leased."""
        found = await rows.get(db, id, lock=True)
        if found.record.busy and found.lease not in self._stray:
            raise refusals.busy(id)
        return found

    async def _run(self, work: Callable[[Connection], Awaitable[T]], *, writes: bool = False) -> T:
        return await settle(self._start(self._attempt(work, writes=writes)))

    def _start(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        if self._closed:
            coroutine.close()
            raise refusals.unavailable("it is closed")
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _attempt(self, work: Callable[[Connection], Awaitable[T]], *, writes: bool) -> T:
        """Do some work in one transaction.

        Raises:
            StoreUnavailableError: it was not done, or may not have been.
        """
        try:
            if not self._ready:
                async with self._connections.transaction() as db:
                    await prepare(db)
                self._ready = True
            async with self._connections.transaction() as db:
                result = await work(db)
        except StoreUnavailableError as error:
            self._availability.fails(error.message, writing=writes)
            raise
        except (psycopg.Error, OSError) as error:
            detail = self._connections.redact(f"{type(error).__name__}: {error}")
            self._availability.fails(
                reason(error), detail, writing=writes, lasting=is_lasting(error)
            )
            raise refusals.unavailable(reason(error)) from None  # the cause may hold the password
        self._availability.works(writing=writes)
        return result

    def _give_back(self, id: str, lease: uuid.UUID) -> None:
        """End a turn that nobody else will end; if that fails, the next `renew` or `close` does."""
        if self._leases.get(id) == lease:
            del self._leases[id]
        self._stray[lease] = id
        if not self._closed:
            forget(self._start(self.renew([])))
