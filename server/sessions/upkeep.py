"""What is done for sessions every few seconds, whether there are requests or not."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from causalrn.server.engine.engine import Engine
from causalrn.server.engine.engines import Engines
from causalrn.server.errors import NotReadyError, ServiceError, SessionNotFoundError
from causalrn.server.sessions.even_clocks import EvenClocks
from causalrn.server.sessions.locks import SessionLocks
from causalrn.server.sessions.memory import SessionMemory
from causalrn.server.sessions.store.base import SessionStore
from causalrn.server.sessions.turns import SessionTurns

LEASE_SECONDS = 15.0
"""How long a session stays leased to a server that has vanished."""

_SWEEP_SECONDS = 60.0


class Upkeep:
    """Renews the leases of running turns, and removes what has expired.

    Args:
        engines: have the memory of sessions.
        memory: of sessions, in the engines.
        store: keeps the logs.
        turns: those that this server runs.
        locks: which sessions requests of this server use.
    """

    def __init__(
        self,
        engines: Engines,
        memory: SessionMemory,
        store: SessionStore,
        turns: SessionTurns,
        locks: SessionLocks,
    ) -> None:
        self._engines = engines
        self._memory = memory
        self._store = store
        self._turns = turns
        self._locks = locks
        self._clocks = EvenClocks()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin; called from the event loop."""
        for seconds, work in ((LEASE_SECONDS / 3, self.renew), (_SWEEP_SECONDS, self.sweep)):
            self._tasks.append(asyncio.create_task(_every(seconds, work)))

    async def stop(self) -> None:
        """Stop; idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def renew(self) -> None:
        """Renew the leases of running turns, so that other servers leave the sessions alone."""
        await self._store.renew([turn.session_id for turn in self._turns.running])

    async def sweep(self) -> None:
        """Remove expired sessions, and the memory of those that are gone from the store.

        Nothing is removed while a clock may be wrong: one that is set forward, even for a minute,
        makes all sessions look as if they had expired.
        """
        if not self._clocks.are_trusted(time.time(), await self._store.now()):
            return
        await self._store.sweep()
        for engine in self._engines:
            with contextlib.suppress(NotReadyError):  # an engine that is stuck or dead
                await self._drop_gone(engine)

    async def _drop_gone(self, engine: Engine) -> None:
        for id in await self._memory.warm_ids(engine):
            try:
                await self._store.get(id)
            except SessionNotFoundError:
                if id not in self._locks:
                    await self._memory.drop(id, engine.model.fingerprint)


async def _every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        with contextlib.suppress(ServiceError):  # the store has logged it
            await work()
