"""What the engines' pools hold of sessions, besides the logs in the store."""

from collections.abc import Sequence

from model.state import SequenceMemory
from server.engine.engine import Engine
from server.engine.engines import Engines
from server.engine.generation import GenerationParams
from server.engine.modes import RAW
from server.engine.pooled_sessions import PooledSessions
from server.engine.ticket import Context
from server.engine.warm_sessions import PoolUse
from server.sessions.engine_finder import EngineFinder
from server.sessions.store.base import SessionRecord


class SessionMemory:
    """The memory of sessions, which makes their next turn cheap and can always be computed again.

    A session whose engine is unloaded in the middle of a call is cold: the call does nothing.

    Args:
        engines: that hold the memory.

    Raises:
        NotReadyError: by every method, if an engine that is served does not run, or is stuck.
    """

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._finder = EngineFinder(engines)

    async def uses(self, records: Sequence[SessionRecord]) -> dict[str, tuple[PoolUse, int]]:
        """How much is held of some sessions, by their ids, and how many bytes that is."""
        by_engine: dict[Engine, list[str]] = {}
        for record in records:
            if (engine := self._finder.find(record)) is not None:
                by_engine.setdefault(engine, []).append(record.id)
        found: dict[str, tuple[PoolUse, int]] = {}
        for engine, ids in by_engine.items():
            uses = await self._engines.call(engine, PooledSessions.uses, ids) or []
            for id, use in zip(ids, uses, strict=bool(uses)):
                found[id] = use, (use.pages_own + use.pages_shared) * engine.bytes_per_page
        return found

    async def fork(self, record: SessionRecord, child: str) -> None:
        """Let a new session share what is held of another, which no request is in."""
        if (engine := self._finder.find(record)) is not None:
            await self._engines.call(engine, PooledSessions.fork, record.id, child)

    async def drop(self, id: str, fingerprint: str) -> None:
        """Give up what is held of a session that belongs to these weights."""
        for engine in self._finder.of_weights(fingerprint):
            await self._engines.call(engine, PooledSessions.drop, id)

    async def save(
        self, engine: Engine, context: Context, owner: str
    ) -> tuple[int, SequenceMemory] | None:
        """Copy the memory of a session that no request is in; compute it first if it is cold.

        Args:
            engine: that has the session's weights.
            context: the session's id and its log, which is not empty.
            owner: whose memory it may share.

        Returns:
            The tokens of the log that the memory is of, and the memory; None if it was needed by
            others as soon as it was computed.

        Raises:
            ServiceError: as `Engine.submit`, if it has to be computed.
        """
        held = await self._export(engine, context)
        if held is None:
            await _compute(engine, context, owner)
            held = await self._export(engine, context)
        return held

    async def restore(
        self, engine: Engine, id: str, token_ids: list[int], memory: SequenceMemory
    ) -> None:
        """Put what `save` gave into the pool, for a session that no request is in.

        Args:
            engine: that has the session's weights.
            id: of the session.
            token_ids: the beginning of its log that the memory is of.
            memory: of these.
        """
        await self._engines.call(engine, PooledSessions.restore, id, token_ids, memory)

    async def warm_ids(self, engine: Engine) -> list[str]:
        """The idle sessions of which an engine holds anything."""
        return await self._engines.call(engine, PooledSessions.ids) or []

    async def _export(self, engine: Engine, context: Context) -> tuple[int, SequenceMemory] | None:
        return await self._engines.call(
            engine, PooledSessions.export, context.key, context.token_ids
        )


async def _compute(engine: Engine, context: Context, owner: str) -> None:
    """Have an engine read the log of a session, without adding to it."""
    params = GenerationParams(max_tokens=0, mode=RAW)
    async with engine.enqueue(engine.admit([], params, context, owner=owner)) as stream:
        async for _ in stream:
            pass
