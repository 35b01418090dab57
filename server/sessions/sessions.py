"""Sessions: their logs last in the store, and their memory is kept warm in the engines' pools."""

import logging
from dataclasses import replace

from causalrn.server.engine.engines import Engines
from causalrn.server.engine.warm_sessions import PoolUse
from causalrn.server.errors import ServiceError
from causalrn.server.sessions.caller import Caller, check_seen
from causalrn.server.sessions.locks import SessionLocks
from causalrn.server.sessions.memory import SessionMemory
from causalrn.server.sessions.session_info import SessionInfo
from causalrn.server.sessions.session_maker import SessionMaker
from causalrn.server.sessions.snapshots import Snapshots
from causalrn.server.sessions.store.base import SessionRecord, SessionStore
from causalrn.server.sessions.store.refusals import busy
from causalrn.server.sessions.turns import SessionTurns
from causalrn.server.sessions.upkeep import Upkeep
from causalrn.server.settings import Settings

logger = logging.getLogger(__name__)


class Sessions:
    """Makes sessions, looks at them, forks and deletes them. Belongs to one event loop's thread.

    All but making them works even while no engine has a session's weights.

    Every method raises `StoreUnavailableError` when the store cannot be used. Those that take an id
    raise `SessionNotFoundError` when there is no such session, or none that the caller may see.

    Args:
        engines: compute the turns.
        store: keeps the logs.
        settings: of the server, with the limits of sessions.

    Attributes:
        locks: which sessions requests of this server use.
        turns: those that this server runs.
        snapshots: saves and restores sessions.
        upkeep: renews leases and removes expired sessions.
    """

    def __init__(self, engines: Engines, store: SessionStore, settings: Settings) -> None:
        self._engines = engines
        self._store = store
        self._memory = SessionMemory(engines)
        self._maker = SessionMaker(store, settings)
        self.locks = SessionLocks()
        self.turns = SessionTurns(engines, store, self.locks)
        self.snapshots = Snapshots(engines, self._memory, store, settings, self.turns, self.locks)
        self.upkeep = Upkeep(engines, self._memory, store, self.turns, self.locks)

    async def start(self) -> None:
        """Open the store; if that fails, sessions are unavailable until it succeeds.

        Raises:
            StartupError: the store is another process's.
        """
        try:
            await self._store.open()
        except ServiceError as error:
            logger.error("sessions are unavailable: %s", error.message)
        self.upkeep.start()

    def check_ready(self) -> None:
        """Return if the store works.

        Raises:
            StoreUnavailableError: it does not; requests without a session are served.
        """
        self._store.check_ready()

    async def stop(self) -> None:
        """Commit what is left to commit, give all sessions back, and close the store."""
        await self.turns.stop()
        await self.upkeep.stop()
        await self._store.close()

    async def create(
        self, caller: Caller, ttl: float | None, model: str | None = None
    ) -> SessionInfo:
        """Make an empty session.

        Args:
            caller: who asks for it, and so its owner.
            ttl: how many seconds after its last use it expires; None for the server's limit.
            model: name of the model that it belongs to; None for the default model.

        Raises:
            ModelNotFoundError: no such model is served.
            InvalidRequestError: `ttl` is too long.
            TooManySessionsError: the server or the owner has as many sessions as it may have.
        """
        served = self._engines.get(model).model
        record = await self._maker.record(served, self._maker.ttl(ttl), caller)
        await self._maker.add(record, [], caller)
        return SessionInfo(record, PoolUse())

    async def get(self, caller: Caller, id: str, *, with_tokens: bool = False) -> SessionInfo:
        """Look at a session, and at its log if `with_tokens`."""
        token_ids = None
        if with_tokens:
            record, token_ids = await self._store.read(id)
        else:
            record = await self._store.get(id)
        check_seen(record, caller)
        return replace(await self.describe(record), token_ids=token_ids)

    async def page(self, caller: Caller, after: str | None, limit: int) -> list[SessionInfo]:
        """Up to `limit` sessions made after the one with id `after`, in the order of making."""
        return await self._describe(await self._store.list(after, limit, caller.sees))

    async def delete(self, caller: Caller, id: str) -> None:
        """Remove a session and its memory; a request that uses it ends with an error."""
        record = await self._store.get(id)
        check_seen(record, caller)
        await self._store.delete(id)
        self.turns.end(id)
        await self._memory.drop(id, record.fingerprint)

    async def fork(self, caller: Caller, id: str, ttl: float | None) -> SessionInfo:
        """Make a session that continues from where another is, with the same memory and owner.

        Raises:
            InvalidRequestError: `ttl` is too long.
            SessionBusyError: a request uses the other one.
            TooManySessionsError: the server or the owner has as many sessions as it may have.
        """
        await self.turns.lock(id)
        try:
            record, token_ids = await self._store.read(id)
            check_seen(record, caller)
            if record.busy:
                raise busy(id)
            lasts = record.ttl if ttl is None else self._maker.ttl(ttl)
            child = await self._maker.child(record, lasts)
            await self._maker.add(child, token_ids, caller)
            await self._memory.fork(record, child.id)
        finally:
            self.locks.release(id)
        return await self.describe(child)

    async def describe(self, record: SessionRecord) -> SessionInfo:
        """Add to what the store knows of a session what the pool does."""
        (info,) = await self._describe([record])
        return info

    async def _describe(self, records: list[SessionRecord]) -> list[SessionInfo]:
        uses = await self._memory.uses(records)
        return [
            SessionInfo(
                replace(record, busy=record.busy or self.locks.has_turn(record.id)),
                *uses.get(record.id, (PoolUse(), 0)),
            )
            for record in records
        ]
