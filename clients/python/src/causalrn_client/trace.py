"""Watches what becomes of a request on its way out."""


class Trace:
    """Tells whether a request went nowhere: the server had closed the connection it was sent on.

    A server may close a connection that was idle just when a request is sent on it. Such a request
    fails, although the server is well. `httpx` calls the trace with each step.
    """

    def __init__(self) -> None:
        self._was_sent = False
        self._is_alive = False

    @property
    def went_nowhere(self) -> bool:
        """Whether it was sent on a connection that had been used before, and got no answer."""
        return self._was_sent and not self._is_alive

    def __call__(self, event: str, _info: object) -> None:
        """Notes a step."""
        if ".send_request_headers." in event:
            self._was_sent = True
        elif ".connect_" in event or event.endswith(".receive_response_headers.complete"):
            self._is_alive = True


class AsyncTrace(Trace):
    """The same where `httpx` awaits what it calls."""

    async def __call__(self, event: str, _info: object) -> None:  # type: ignore[override]
        """Notes a step."""
        super().__call__(event, _info)
