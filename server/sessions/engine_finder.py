"""Which engine can go on with which session."""

from causalrn.server.engine.engine import Engine
from causalrn.server.engine.engines import Engines
from causalrn.server.errors import SessionOfOtherWeightsError
from causalrn.server.sessions.store.base import SessionRecord


class EngineFinder:
    """Finds engines by the weights that a session was made with.

    A session can go on with any engine that has its weights. Of several, the one whose model has
    the name that the session was made with comes first.

    Args:
        engines: those of the server.
    """

    def __init__(self, engines: Engines) -> None:
        self._engines = engines

    def find(self, record: SessionRecord) -> Engine | None:
        """The engine that can go on with a session, if there is one."""
        fitting = self.of_weights(record.fingerprint)
        return min(fitting, key=lambda one: one.model.name != record.model, default=None)

    def require(self, record: SessionRecord, model: str | None = None) -> Engine:
        """The engine that can go on with a session.

        Args:
            record: the session's.
            model: name of the model that the session must belong to; None for any.

        Raises:
            SessionOfOtherWeightsError: no engine has its weights, or `model` is another model.
        """
        engine = self.find(record)
        if engine is None:
            raise SessionOfOtherWeightsError(
                f"session {record.id} belongs to weights {record.fingerprint:.12} "
                f"({record.model}), this server has {self.weights()}"
            )
        if model not in (None, record.model, engine.model.name):
            raise SessionOfOtherWeightsError(
                f"session {record.id} belongs to the model {record.model}; leave out 'model', or "
                "make a session of the other one",
                param="model",
            )
        return engine

    def of_weights(self, fingerprint: str | None) -> list[Engine]:
        """All engines that have these weights."""
        return [one for one in self._engines if one.model.fingerprint == fingerprint]

    def weights(self) -> str:
        """The weights that are served, for error messages."""
        return ", ".join(f"{one.model.fingerprint:.12} ({one.model.name})" for one in self._engines)
