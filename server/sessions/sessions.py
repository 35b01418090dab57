"""Sessions: what lasts of them is in the store, what is warm of them in the engines' pools."""

import logging
from dataclasses import replace

from server.engine.engines import Engines
from server.engine.warm_sessions import PoolUse
from server.errors import ServiceError
from server.sessions.holder import Holder, check_seen
from server.sessions.locks import SessionLocks, busy
from server.sessions.memory import SessionMemory
from server.sessions.session_info import SessionInfo
from server.sessions.session_maker import SessionMaker
from server.sessions.snapshots import Snapshots
from server.sessions.store.base import SessionRecord, SessionStore
from server.sessions.turns import SessionTurns
from server.sessions.upkeep import Upkeep
from server.settings import Settings

logger = logging.getLogger(__name__)


class Sessions:
    """Makes sessions, looks at them, forks and deletes them. Belongs to one event loop's thread.

    All of that works even while no engine has the weights of a session.

    Every method raises `StoreUnavailableError` when the store cannot be used, and those that are
    given an id `SessionNotFoundError` when there is no such session, or none that its holder sees.

    Args:
        engines: that compute.
        store: that keeps the logs.
        settings: with the limits of sessions.

    Attributes:
        locks: of the sessions that requests of this server are in.
        turns: that this server runs.
        snapshots: saving and restoring.
        upkeep: renewing and removing.
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
        """Open the store; if that fails, sessions are unavailable until it succeeds."""
        try:
            await self._store.open()
        except ServiceError as error:
            logger.error("sessions are unavailable: %s", error.message)
        self.upkeep.start()

    async def stop(self) -> None:
        """Commit what is still to be, give all sessions back, and close the store."""
        await self.turns.stop()
        await self.upkeep.stop()
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
            InvalidRequestError: `ttl` is too long.
            TooManySessionsError: there are as many as there may be, or the holder has.
        """
        served = self._engines.get(model).model
        record = self._maker.record(served, self._maker.ttl(ttl), holder)
        await self._maker.add(record, [], holder)
        return SessionInfo(record, PoolUse())

    async def get(self, holder: Holder, id: str, *, with_tokens: bool = False) -> SessionInfo:
        """Look at a session, and at its log if `with_tokens`."""
        token_ids = None
        if with_tokens:
            record, token_ids = await self._store.read(id)
        else:
            record = await self._store.get(id)
        check_seen(record, holder)
        return replace(await self.describe(record), token_ids=token_ids)

    async def page(self, holder: Holder, after: str | None, limit: int) -> list[SessionInfo]:
        """Up to `limit` sessions whose ids come after one, in the order in which they were made."""
        return await self._describe(await self._store.list(after, limit, holder.sees))

    async def delete(self, holder: Holder, id: str) -> None:
        """Remove a session and free what the pool holds of it; ends a request that is in it."""
        record = await self._store.get(id)
        check_seen(record, holder)
        await self._store.delete(id)
        self.turns.end(id)
        await self._memory.drop(id, record.fingerprint)

    async def fork(self, holder: Holder, id: str, ttl: float | None) -> SessionInfo:
        """Make a session that goes on from where another is, and shares its memory and its owner.

        Raises:
            InvalidRequestError: `ttl` is too long.
            SessionBusyError: a request is in the other one.
            TooManySessionsError: there are as many as there may be, or the holder has.
        """
        await self.turns.lock(id)
        try:
            record, token_ids = await self._store.read(id)
            check_seen(record, holder)
            if record.busy:
                raise busy(id)
            child = self._maker.child(record, record.ttl if ttl is None else self._maker.ttl(ttl))
            await self._maker.add(child, token_ids, holder)
            await self._memory.fork(record, child.id)
        finally:
            self.locks.release(id)
        return await self.describe(child)

    async def describe(self, record: SessionRecord) -> SessionInfo:
        """A session of which the store has said what it knows."""
        (info,) = await self._describe([record])
        return info

    async def _describe(self, records: list[SessionRecord]) -> list[SessionInfo]:
        uses = await self._memory.uses(records)
        return [
            SessionInfo(
                replace(record, busy=record.busy or record.id in self.locks),
                *uses.get(record.id, (PoolUse(), 0)),
            )
            for record in records
        ]
