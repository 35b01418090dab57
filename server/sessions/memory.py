"""The memory of sessions in the engines' pools, beside the logs in the store."""

from collections.abc import Sequence

from causalrn.model.state import SequenceMemory
from causalrn.server.engine.engine import Engine
from causalrn.server.engine.engines import Engines
from causalrn.server.engine.generation import GenerationParams
from causalrn.server.engine.modes import RAW
from causalrn.server.engine.pooled_sessions import PooledSessions
from causalrn.server.engine.ticket import Context
from causalrn.server.engine.warm_sessions import PoolUse
from causalrn.server.sessions.engine_finder import EngineFinder
from causalrn.server.sessions.store.base import SessionRecord


class SessionMemory:
    """The memory that makes a session's next turn cheap, and can always be computed again.

    If an engine is unloaded in the middle of a call, its sessions are cold, and the call does
    nothing for them.

    Args:
        engines: the ones whose pools hold the memory.

    Raises:
        NotReadyError: by every method, if an engine that is served does not run, or is stuck.
    """

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._finder = EngineFinder(engines)

    async def uses(self, records: Sequence[SessionRecord]) -> dict[str, tuple[PoolUse, int]]:
        """How much of the pools some sessions have, and in how many bytes, by their ids."""
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
        """Let a new session share the memory of an idle one."""
        if (engine := self._finder.find(record)) is not None:
            await self._engines.call(engine, PooledSessions.fork, record.id, child)

    async def drop(self, id: str, fingerprint: str) -> None:
        """Give up the memory of a session that belongs to these weights."""
        for engine in self._finder.of_weights(fingerprint):
            await self._engines.call(engine, PooledSessions.drop, id)

    async def save(
        self, engine: Engine, context: Context, owner: str
    ) -> tuple[int, SequenceMemory] | None:
        """Copy the memory of an idle session; compute it first if the session is cold.

        Args:
            engine: one that has the session's weights.
            context: the session's id and its log, which is not empty.
            owner: whose memory it may share.

        Returns:
            How many tokens of the log, from its beginning, the memory is of, and the memory; None
            if other requests needed its room as soon as it was computed.

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
        """Put memory that `save` copied into the pool, for an idle session.

        Args:
            engine: one that has the session's weights.
            id: the session's id.
            token_ids: the tokens, at the beginning of its log, that the memory is of.
            memory: of these tokens.
        """
        await self._engines.call(engine, PooledSessions.restore, id, token_ids, memory)

    async def warm_ids(self, engine: Engine) -> list[str]:
        """The idle sessions that have memory in an engine's pool."""
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
