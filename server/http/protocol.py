"""The HTTP protocol with limits on heads, trailers and clients that do not read.

The app can limit only what uvicorn gives it. By itself uvicorn waits without end for a head, or for
a client to read, and keeps all bytes of a head or of a chunked body's trailers.
`causalrn.server.http.connection_guard` has uvicorn use this protocol.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from causalrn.server.errors import (
    HeadersTooLargeError,
    MalformedRequestError,
    OverloadedError,
    RequestTimeoutError,
    ServiceError,
)
from causalrn.server.http.answers import Answer, Answers
from causalrn.server.http.errors import error_response
from causalrn.server.http.head_limits import MAX_HEAD_BYTES
from causalrn.server.http.http1 import Http1Protocol
from causalrn.server.http.note_answers import address
from causalrn.server.http.request_id import HEADER, new_request_id
from causalrn.server.http.secure_headers import SECURE_HEADERS

_LOOK_AGAIN_SECONDS = 0.02


class GuardedProtocol(Http1Protocol):
    """One connection.

    Limits the bytes of a head, of a chunk's extensions and of a body's trailers; and the time for a
    head, and for the rest of a body that was answered before its end. Cuts off a client that does
    not read. Has the app refuse what is over uvicorn's `--limit-concurrency`.

    Attributes:
        head_seconds: how long a head may take, or the rest of a body that nobody wants.
        write_seconds: how long a client may leave full buffers unread.
    """

    head_seconds = 10.0
    write_seconds = 60.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.limit_concurrency = None  # uvicorn's refusal has no body, no id, and is not counted
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
        if self.transport.is_closing():
            return
        if self._unused > MAX_HEAD_BYTES:
            self._refuse(
                HeadersTooLargeError(
                    f"the head of the request is larger than the limit of {MAX_HEAD_BYTES} bytes"
                )
            )
        elif self._unused and not self._in_body:
            self._arm()

    def on_headers_complete(self) -> None:
        """Begin a request."""
        self._unused = 0
        self._disarm()
        limit = self.config.limit_concurrency
        if limit is not None and max(len(self.connections), len(self.tasks)) >= limit:
            self.scope["state"]["refusal"] = OverloadedError(
                f"the server has {limit} connections, and may have no more; try again later"
            )
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._unused = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a body."""
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
            request_id = new_request_id()
            response.headers.update(SECURE_HEADERS | {HEADER: request_id, "connection": "close"})
            head = [*self.server_state.default_headers, *response.raw_headers]
            lines = [b"%s: %s\r\n" % header for header in head]
            status = STATUS_LINE[response.status_code]
            self.transport.write(b"".join([status, *lines, b"\r\n", bytes(response.body)]))
            answers: Answers = self.app_state["answers"]
            answers.note(
                Answer(
                    client=address(self.client),
                    status=response.status_code,
                    reason=error.type,
                    request_id=request_id,
                )
            )
        self.transport.close()
