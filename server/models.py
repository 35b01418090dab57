"""The models that are served, by name."""

from collections.abc import Iterator

from server.engine import Engine
from server.errors import LONGEST_ECHO, ModelNotFoundError, printable


class Models:
    """Engines by the names of their models.

    Args:
        default: of requests that name none.
    """

    def __init__(self, default: Engine) -> None:
        self.default = default
        self._engines = {default.model.name: default}

    def __iter__(self) -> Iterator[Engine]:
        return iter(self._engines.values())

    def get(self, name: str | None) -> Engine:
        """The engine of a model, or that of the default one.

        Raises:
            ModelNotFoundError: no model of this name is served.
        """
        if name is None:
            return self.default
        try:
            return self._engines[name]
        except KeyError:
            raise ModelNotFoundError(
                f"there is no model '{printable(name, LONGEST_ECHO)}'; "
                f"served are {', '.join(self._engines)}",
                param="model",
            ) from None
