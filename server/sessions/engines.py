"""Which engine goes on with which session."""

from collections.abc import Callable
from typing import TypeVar

from server.engine.core import EngineCore
from server.engine.engine import Engine
from server.engine.engines import Engines
from server.errors import NotReadyError, SessionOfOtherWeightsError
from server.sessions.store.base import SessionRecord

T = TypeVar("T")


class SessionEngines:
    """The engines of some models, by the sessions that they can go on with.

    A session belongs to the weights that it was made with: any engine that has these computes it,
    that of the model of the same name before others.

    Args:
        models: that compute.
    """

    def __init__(self, models: Engines) -> None:
        self._models = models

    def of(self, record: SessionRecord) -> Engine | None:
        """The engine that can go on with a session, if there is one."""
        engines = self.of_weights(record.fingerprint)
        return min(engines, key=lambda one: one.model.name != record.model, default=None)

    def wanted(self, record: SessionRecord, model: str | None = None) -> Engine:
        """The engine that goes on with a session, which must belong to a model, if one is named.

        Raises:
            SessionOfOtherWeightsError: there is none, or it is of another model.
        """
        engine = self.of(record)
        if engine is None:
            raise SessionOfOtherWeightsError(
                f"session {record.id} belongs to weights {record.fingerprint:.12} "
                f"({record.model}), this server has {self.names()}"
            )
        if model not in (None, record.model, engine.model.name):
            raise SessionOfOtherWeightsError(
                f"session {record.id} belongs to the model {record.model}; leave out 'model', or "
                "make a session of the other one",
                param="model",
            )
        return engine

    def of_weights(self, fingerprint: str | None) -> list[Engine]:
        """All that have these weights."""
        return [one for one in self._models if one.model.fingerprint == fingerprint]

    def names(self) -> str:
        """Which weights there are, for people."""
        return ", ".join(f"{one.model.fingerprint:.12} ({one.model.name})" for one in self._models)

    async def call(self, engine: Engine, work: Callable[[EngineCore], T]) -> T | None:
        """`Engine.call`; None if the engine is unloaded meanwhile, and what was warm is cold."""
        try:
            return await engine.call(work)
        except NotReadyError:
            if self._models.serves(engine):
                raise
            return None

    async def cool(self, id: str, fingerprint: str) -> None:
        """Have the engines of these weights give up what they hold of a session."""
        for engine in self.of_weights(fingerprint):
            await self.call(engine, lambda core: core.pool.sessions.drop(id))
