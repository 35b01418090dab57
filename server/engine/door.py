"""Whether an engine takes requests, and the errors of those that it does not serve."""

from causalrn.server.errors import ModelUnloadedError, ShuttingDownError, UnavailableError


class Door:
    """Open until the server, or this engine alone, is about to end.

    Args:
        model: name of the model, for people.
        drain_seconds: how long the requests inside may take to finish once it is closed.
    """

    def __init__(self, model: str, drain_seconds: float) -> None:
        self._model = model
        self._drain_seconds = drain_seconds
        self._is_closed = self._is_unloading = False

    def close(self, *, unloading: bool = False) -> None:
        """Let no more requests in; idempotent.

        Args:
            unloading: whether only this engine is about to end, and not the whole server.
        """
        self._is_closed = True
        self._is_unloading |= unloading

    def check(self) -> None:
        """Return if requests may come in.

        Raises:
            ModelUnloadedError: this engine is about to end.
            ShuttingDownError: the whole server is.
        """
        if self._is_unloading:
            raise ModelUnloadedError(f"the model {self._model} is being unloaded")
        if self._is_closed:
            raise ShuttingDownError(
                "the server is shutting down", retry_after=round(self._drain_seconds) + 1
            )

    def farewell(self) -> UnavailableError:
        """The error of requests that were inside and not finished in time."""
        if self._is_unloading:
            return ModelUnloadedError(
                f"the model {self._model} was unloaded before the request was finished"
            )
        return ShuttingDownError("the server shut down before the request was finished")
