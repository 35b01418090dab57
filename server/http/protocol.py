"""uvicorn's HTTP protocol, with limits on heads, trailers and clients that do not read.

The app can limit only what uvicorn gives it. By itself uvicorn waits without end for a head, or for
a client to read, and keeps all bytes of a head or of a chunked body's trailers.
`server.http.connection_guard` has uvicorn use this protocol.
"""

import asyncio
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.flow_control import service_unavailable
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from server.errors import (
    HeadersTooLargeError,
    MalformedRequestError,
    OverloadedError,
    RequestTimeoutError,
    ServiceError,
)
from server.http.errors import error_response
from server.http.head_limits import MAX_HEAD_BYTES
from server.http.request_id import RequestIdMiddleware
from server.http.secure_headers import SECURE_HEADERS, SecureHeaders

_LOOK_AGAIN_SECONDS = 0.02


class GuardedProtocol(HttpToolsProtocol):
    """One connection.

    Limits the bytes of a head, of a chunk's extensions and of a body's trailers; and the time for a
    head, and for the rest of a body that was answered before its end. Cuts off a client that does
    not read.

    Attributes:
        head_seconds: how long a head may take, or the rest of a body that nobody wants.
        write_seconds: how long a client may leave full buffers unread.
    """

    head_seconds = 10.0
    write_seconds = 60.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_body = False  # whether a head is complete and its body is not
        self._unused = 0  # bytes that are not yet part of a complete head or of a body
        self._deadline: asyncio.TimerHandle | None = None
        self._write_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Give the first head its time."""
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget all deadlines."""
        self._disarm()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, within the limits."""
        self._unused += len(data)
        super().data_received(data)
        if self.transport.is_closing() or self.transport.get_protocol() is not self:
            return
        if self._unused > MAX_HEAD_BYTES:
            self._refuse(
                HeadersTooLargeError(
                    f"the head of the request is larger than the limit of {MAX_HEAD_BYTES} bytes"
                )
            )
        elif self._unused and not self._in_body:
            self._arm()

    def handle_websocket_upgrade(self) -> None:
        """Leave the connection to another protocol."""
        self._disarm()
        super().handle_websocket_upgrade()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, but no trailer, which would become a header of the running request."""
        if not self._in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin a request."""
        self._in_body = True
        self._unused = 0
        self._disarm()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._unused = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a body."""
        self._in_body = False
        self._unused = 0
        self._disarm()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """End a response, which may be before the end of the request's body."""
        super().on_response_complete()
        if self._in_body:
            self._arm()

    def pause_writing(self) -> None:
        """Wait for the client to read, but not for ever."""
        super().pause_writing()
        if self._write_deadline is None:
            self._write_deadline = self.loop.call_later(self.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on, as the client has read."""
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """Answer what is not HTTP."""
        self._refuse(MalformedRequestError("the request is not valid HTTP/1.1"))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Begin to answer; what is beyond uvicorn's `--limit-concurrency`, in our own words."""
        super()._start_asgi_task(cycle, _too_many(cycle) if app is service_unavailable else app)

    def _arm(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.head_seconds, self._look_again)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _look_again(self) -> None:
        """Let what has arrived be read: a loop that was held up runs timers before it reads."""
        self._deadline = self.loop.call_later(_LOOK_AGAIN_SECONDS, self._be_late)

    def _be_late(self) -> None:
        self._deadline = None
        if self._is_busy:
            self._arm()  # a head that waits for the response before it
        elif self._unused and not self._in_body:
            seconds = f"{self.head_seconds:g} s"
            self._refuse(
                RequestTimeoutError(f"the head of the request did not arrive within {seconds}")
            )
        else:
            self.transport.close()

    @property
    def _is_busy(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # there is none before the first request
        return cycle is not None and not cycle.response_complete

    def _refuse(self, error: ServiceError) -> None:
        """Answer in place of the app and hang up; in the middle of a response, only hang up."""
        if not self._is_busy and not self.transport.is_closing():
            response = error_response({}, error)  # the request's path is not known
            response.headers.update(SECURE_HEADERS)
            response.headers["connection"] = "close"
            head = [*self.server_state.default_headers, *response.raw_headers]
            lines = [b"%s: %s\r\n" % header for header in head]
            status = STATUS_LINE[response.status_code]
            self.transport.write(b"".join([status, *lines, b"\r\n", bytes(response.body)]))
        self.transport.close()


def _too_many(cycle: RequestResponseCycle) -> Any:
    """An app that refuses a request because there are too many connections."""

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        error = OverloadedError("the server has as many connections as it may have; try again soon")
        response = error_response(scope, error)
        if not cycle.more_body:  # else closing would reset the connection before this is read
            response.headers["connection"] = "close"
        await response(scope, receive, send)

    return SecureHeaders(RequestIdMiddleware(refuse))
