"""Sessions: what lasts of them is in the store, what is warm of them in the engines' pools."""

import asyncio
import contextlib
import functools
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass, replace

from server.engine.core import EngineCore
from server.engine.engine import Engine
from server.engine.engines import Engines
from server.engine.generation import GenerationParams
from server.engine.served_model import ServedModel
from server.engine.ticket import Context
from server.engine.warm_sessions import PoolUse
from server.errors import (
    InvalidRequestError,
    InvalidSnapshotError,
    NotReadyError,
    OverloadedError,
    ServiceError,
    SessionEmptyError,
    SessionFullError,
    SessionNotFoundError,
)
from server.sessions.engine_finder import EngineFinder
from server.sessions.holder import Holder, check_seen
from server.sessions.locks import SessionLocks, busy
from server.sessions.snapshot import Snapshot, fingerprint_of, largest_size, read_snapshot
from server.sessions.store.base import SessionRecord, SessionStore
from server.sessions.store.refusals import exists
from server.sessions.turns import SessionTurns
from server.settings import Settings

logger = logging.getLogger(__name__)

LEASE_SECONDS = 15.0
"""After which the sessions of a server that vanished are free for others."""

_SWEEP_SECONDS = 60.0
_MAX_SNAPSHOTS = 4  # that are held in memory at once


@dataclass(frozen=True)
class SessionInfo:
    """A session as clients see it.

    Attributes:
        record: what the store has.
        use: what the pool has.
        pool_bytes: memory of the pages that it has there.
        token_ids: its log, if it was asked for.
    """

    record: SessionRecord
    use: PoolUse
    pool_bytes: int = 0
    token_ids: list[int] | None = None


class Sessions:
    """All that can be done with sessions. Belongs to one event loop's thread.

    While no engine has the weights of a session, it can be looked at, forked and deleted.

    Every method raises `StoreUnavailableError` when the store cannot be used, and those that are
    given an id `SessionNotFoundError` when there is no such session, or none that its holder sees.

    Args:
        engines: that compute.
        store: that keeps the logs.
        settings: with the limits of sessions.

    Attributes:
        turns: of the sessions, which this server runs.
        snapshots: to be held while a snapshot is in memory, so that many of them cannot fill it.
    """

    def __init__(self, engines: Engines, store: SessionStore, settings: Settings) -> None:
        self._engines = engines
        self._store = store
        self._settings = settings
        self._locks = SessionLocks()
        self._finder = EngineFinder(engines)
        self.turns = SessionTurns(engines, store, self._locks)
        self.snapshots = asyncio.Semaphore(_MAX_SNAPSHOTS)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def max_snapshot_bytes(self) -> int:
        """Size of the largest snapshot that can be restored."""
        return max(largest_size(engine.layers, engine.model.config) for engine in self._engines)

    async def start(self) -> None:
        """Open the store; if that fails, sessions are unavailable until it succeeds."""
        try:
            await self._store.open()
        except ServiceError as error:
            logger.error("sessions are unavailable: %s", error.message)
        for seconds, work in ((LEASE_SECONDS / 3, self._renew), (_SWEEP_SECONDS, self._sweep)):
            self._tasks.append(asyncio.create_task(_every(seconds, work)))

    async def stop(self) -> None:
        """Commit what is still to be, give all sessions back, and close the store."""
        await self.turns.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._store.close()

    async def create(
        self, holder: Holder, ttl: float | None, model: str | None = None
    ) -> SessionInfo:
        """Make an empty session.

        Args:
            holder: whose it is.
            ttl: seconds after its last use after which it is gone; the server's own limit if None.
            model: that it belongs to; the default one if None.

        Raises:
            ModelNotFoundError: no such model is served.
            TooManySessionsError: there are as many as there may be, or the holder has.
        """
        record = self._new(self._engines.get(model).model, self._ttl(ttl), holder)
        await self._create(record, [], holder)
        return SessionInfo(record, PoolUse())

    async def get(self, holder: Holder, id: str, *, with_tokens: bool = False) -> SessionInfo:
        """Look at a session."""
        token_ids = None
        if with_tokens:
            record, token_ids = await self._store.read(id)
        else:
            record = await self._store.get(id)
        check_seen(record, holder)
        (info,) = await self._describe([record])
        return replace(info, token_ids=token_ids)

    async def page(self, holder: Holder, after: str | None, limit: int) -> list[SessionInfo]:
        """Up to `limit` sessions whose ids come after one, in the order in which they were made."""
        return await self._describe(await self._store.list(after, limit, holder.sees))

    async def delete(self, holder: Holder, id: str) -> None:
        """Remove a session and free what the pool holds of it; ends a request that is in it."""
        record = await self._store.get(id)
        check_seen(record, holder)
        await self._store.delete(id)
        self.turns.end(id)
        await self._cool(id, record.fingerprint)

    async def fork(self, holder: Holder, id: str, ttl: float | None) -> SessionInfo:
        """Make a session that goes on from where another is, and shares its memory and its owner.

        Raises:
            SessionBusyError: a request is in it.
            TooManySessionsError: there are as many as there may be, or the holder has.
        """
        await self.turns.lock(id)
        try:
            record, token_ids = await self._store.read(id)
            check_seen(record, holder)
            if record.busy:
                raise busy(id)
            child = self._child(record, record.ttl if ttl is None else self._ttl(ttl))
            await self._create(child, token_ids, holder)
            if (engine := self._finder.find(record)) is not None:
                await self._engines.call(engine, EngineCore.fork_session, id, child.id)
        finally:
            self._locks.release(id)
        (info,) = await self._describe([child])
        return info

    async def snapshot(self, holder: Holder, id: str) -> tuple[Snapshot, ServedModel]:
        """A session with its memory, which is computed first if it is cold, and its model.

        Raises:
            SessionBusyError: a request is in it.
            SessionEmptyError: there is nothing in it yet.
            SessionOfOtherWeightsError: its memory cannot be computed with these weights.
            OverloadedError: there is no room to compute it now.
        """
        await self.turns.lock(id)
        try:
            record, token_ids = await self._store.read(id)
            check_seen(record, holder)
            engine = self._finder.require(record)
            if record.busy:
                raise busy(id)
            if not token_ids:
                raise SessionEmptyError(f"session {id} is empty, there is nothing to save")
            export = functools.partial(
                self._engines.call, engine, EngineCore.export_session, id, token_ids
            )
            held = await export()
            if held is None:
                await _warm(engine, Context(id, token_ids), record.owner)
                held = await export()
            if held is None:
                raise OverloadedError("the session's memory was needed by others; try again later")
        finally:
            self._locks.release(id)
        return Snapshot(token_ids, *held), engine.model

    async def restore(self, holder: Holder, id: str, data: bytes) -> tuple[SessionInfo, bool]:
        """Make a session out of a snapshot, or put it in the place of an existing one.

        Returns:
            The session, and whether it is new.

        Raises:
            InvalidSnapshotError: the snapshot cannot be used; nothing is changed.
            SessionFullError: it has more tokens than a session may have.
            SessionBusyError: a request is in the session.
            SessionExistsError: the session in its place is another's.
            TooManySessionsError: there are as many as there may be, or the holder has.
        """
        fingerprint = await asyncio.to_thread(fingerprint_of, data)
        fitting = self._finder.of_weights(fingerprint)
        if fingerprint is not None and not fitting:
            raise InvalidSnapshotError(
                f"the snapshot is of weights {fingerprint:.12}, "
                f"this server has {self._finder.weights()}"
            )
        engine, *_ = [*fitting, self._engines.default]  # any can tell that it is no snapshot
        model = engine.model
        snapshot = await asyncio.to_thread(read_snapshot, data, model, engine.layers)
        token_ids, held = snapshot.token_ids, snapshot.token_ids[: snapshot.n_held]
        most = self._settings.max_session_tokens
        if len(token_ids) > most:
            raise SessionFullError(
                f"the snapshot has {len(token_ids)} tokens, a session may have {most}"
            )
        await self.turns.lock(id)
        try:
            record = replace(
                self._new(model, self._settings.session_ttl, holder, id), n_tokens=len(token_ids)
            )
            try:
                known = await self._store.get(id)
            except SessionNotFoundError:
                await self._create(record, token_ids, holder)
                is_new = True
            else:
                if holder.sees not in (None, known.owner):
                    raise exists(id)
                record = replace(
                    record, created_at=known.created_at, ttl=known.ttl, owner=known.owner
                )
                await self._store.replace(record, token_ids)
                is_new = False
                await self._cool(id, known.fingerprint)
            await self._engines.call(engine, EngineCore.import_session, id, held, snapshot.memory)
        finally:
            self._locks.release(id)
        (info,) = await self._describe([record])
        return info, is_new

    def _ttl(self, ttl: float | None) -> float:
        longest = self._settings.session_ttl
        if ttl is not None and ttl > longest:
            raise InvalidRequestError(
                f"ttl_seconds: must be at most {longest:g}", param="ttl_seconds"
            )
        return longest if ttl is None else ttl

    async def _create(self, record: SessionRecord, token_ids: Items[int], holder: Holder) -> None:
        # What an admin forks is its owner's, and does not count as the admin's.
        most = holder.max_sessions if record.owner == holder.owner else None
        await self._store.create(record, token_ids, self._settings.max_sessions, most)

    def _new(
        self, model: ServedModel, ttl: float, holder: Holder, id: str | None = None
    ) -> SessionRecord:
        now = time.time()
        id = id or _new_id(now)
        return SessionRecord(
            id, model.name, model.fingerprint, 0, now, now, ttl, owner=holder.owner
        )

    def _child(self, parent: SessionRecord, ttl: float) -> SessionRecord:
        """A new session of the same model and log."""
        now = time.time()
        return replace(parent, id=_new_id(now), created_at=now, used_at=now, ttl=ttl)

    async def _describe(self, records: list[SessionRecord]) -> list[SessionInfo]:
        warm: dict[Engine, list[str]] = {}
        for record in records:
            if (engine := self._finder.find(record)) is not None:
                warm.setdefault(engine, []).append(record.id)
        found: dict[str, tuple[PoolUse, int]] = {}
        for engine, ids in warm.items():
            uses = await self._engines.call(engine, EngineCore.session_uses, ids)
            for id, use in zip(ids, uses or (), strict=uses is not None):
                n_pages = use.pages_own + use.pages_shared
                found[id] = use, n_pages * engine.bytes_per_page
        return [
            SessionInfo(
                replace(record, busy=record.busy or record.id in self._locks),
                *found.get(record.id, (PoolUse(), 0)),
            )
            for record in records
        ]

    async def _cool(self, id: str, fingerprint: str) -> None:
        """Have the engines of these weights give up what they hold of a session."""
        for engine in self._finder.of_weights(fingerprint):
            await self._engines.call(engine, EngineCore.drop_session, id)

    async def _renew(self) -> None:
        await self._store.renew([turn.session_id for turn in self.turns.running])

    async def _sweep(self) -> None:
        """Remove expired sessions, and what the pools hold of those that are gone."""
        await self._store.sweep()
        for engine in self._engines:
            with contextlib.suppress(NotReadyError):  # of one that is stuck or dead
                ids = await self._engines.call(engine, EngineCore.warm_session_ids)
                await self._forget_gone(engine, ids or [])

    async def _forget_gone(self, engine: Engine, ids: list[str]) -> None:
        for id in ids:
            try:
                await self._store.get(id)
            except SessionNotFoundError:
                if id not in self._locks:
                    await self._cool(id, engine.model.fingerprint)


async def _warm(engine: Engine, context: Context, owner: str) -> None:
    """Compute the memory of a session, which is locked, without adding to it."""
    params = GenerationParams(max_tokens=0, mode="raw")
    async with engine.enqueue(engine.admit([], params, context, owner=owner)) as stream:
        async for _ in stream:
            pass


def _new_id(now: float) -> str:
    """An id; they sort by time."""
    return f"ses-{int(now * 1e6):014x}{secrets.token_hex(9)}"


async def _every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        with contextlib.suppress(ServiceError):  # the store said so in the log
            await work()
