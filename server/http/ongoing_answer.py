"""The answer to one request, on its way from the app to uvicorn."""

from collections.abc import Awaitable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

_INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
_COMMENT = b":\n\n"


class OngoingAnswer:
    """An app that answers one request, and knows how far its answer is.

    uvicorn sends every answer of unknown length in chunks. HTTP/1.0 has none: there, such an answer
    ends with its connection.

    Args:
        app: what answers.
        cycle: uvicorn's state of the request.
    """

    def __init__(self, app: ASGIApp, cycle: RequestResponseCycle) -> None:
        self._app = app
        self._cycle = cycle
        self._ends_with_connection = False
        self._is_events = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""

        def send_on(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                self._begin(Headers(raw=message.get("headers", [])))
            elif self._ends_with_connection:  # uvicorn counts what is left of a known length
                self._cycle.expected_content_length = len(message.get("body", b""))
            return send(message)

        await self._app(scope, receive, send_on)

    def probe(self) -> bytes | None:
        """What a client must ignore, to be sent where it says nothing more and may be gone.

        It may be empty. None means that nothing of the kind can be sent.
        """
        if not self._cycle.response_started:
            return _INTERIM if self._cycle.scope["http_version"] == "1.1" else None
        if not self._is_events:
            return b""
        chunk = b"%x\r\n%s\r\n" % (len(_COMMENT), _COMMENT)
        return _COMMENT if self._ends_with_connection else chunk

    def give_up(self) -> None:
        """Tell the app that the client has left."""
        self._cycle.disconnected = not self._cycle.response_complete
        self._cycle.message_event.set()

    def _begin(self, headers: Headers) -> None:
        self._is_events = headers.get("content-type", "").startswith("text/event-stream")
        if self._cycle.scope["http_version"] == "1.0" and "content-length" not in headers:
            self._ends_with_connection = True
            self._cycle.chunked_encoding = False
