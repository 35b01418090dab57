"""uvicorn's HTTP protocol, put right where it departs from HTTP/1.1 (RFC 9110 and 9112)."""

import asyncio
from typing import Any

from httptools import HttpParserError
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from causalrn.server.http.ongoing_answer import OngoingAnswer
from causalrn.server.http.request_parser import RequestParser

_UNPROBED_SECONDS = 0.25  # most answers are given before that
_FIRST_PAUSE_SECONDS = 0.05  # between probes; it then doubles
_LONGEST_PAUSE_SECONDS = 15.0


class Http1Protocol(HttpToolsProtocol):
    """One connection.

    Ignores offers of other protocols, trailers, and an expectation that HTTP/1.0 does not know.
    Refuses what this is no server for. Sends no chunks to HTTP/1.0. A client that closes its side
    of the connection after its requests gets its answers.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.parser: RequestParser = RequestParser(self)
        self._in_body = False  # whether a head is complete and its body is not
        self._answer: OngoingAnswer | None = None  # the one that is being given, or was given last
        self._next_probe: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up the answer that is being given; uvicorn gives up that to the last request."""
        if self._next_probe is not None:
            self._next_probe.cancel()
        if self._answer is not None:
            self._answer.give_up()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection open for answers that are due.

        A client that has left looks like one that only says no more. So it is sent what it has to
        ignore, if it is there; if it is not, its machine refuses that, and the next write fails.
        """
        cycle: RequestResponseCycle | None = self.cycle  # there is none before the first request
        if self._in_body or cycle is None or cycle.response_complete:
            return False
        if not self.transport.can_write_eof():  # TLS, where both sides are closed at once
            return False
        cycle.keep_alive = False
        self._probe_in(_UNPROBED_SECONDS, _FIRST_PAUSE_SECONDS)
        return True

    def head_without_offer(self) -> bytes:
        """The head that was parsed last, without its offer of another protocol."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        lines = [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([b"%s %s HTTP/%s" % (method, self.url, version), *lines, b"", b""])

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, but no trailer, which would become a header of the running request."""
        if not self._in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin a request.

        Raises:
            HttpParserError: it is not for this server: a tunnel, or another version of HTTP.
        """
        version = self.parser.get_http_version()
        if version not in ("1.0", "1.1") or self.parser.get_method() == b"CONNECT":
            raise HttpParserError
        if self.parser.should_upgrade():
            return  # the head comes again, without the offer
        if version == "1.0":
            self.expect_100_continue = False
        self._in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End a request."""
        if not self.parser.should_upgrade():
            self._in_body = False
            super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answer = OngoingAnswer(app, cycle)
        super()._start_asgi_task(cycle, self._answer)  # type: ignore[arg-type]

    def _probe_in(self, seconds: float, pause: float) -> None:
        self._next_probe = self.loop.call_later(seconds, self._probe, pause)

    def _probe(self, pause: float) -> None:
        if self._answer is None or self.transport.is_closing():
            return
        probe = self._answer.probe()
        if probe is None:  # one that has left is more likely
            self.transport.close()
            return
        if not self.flow.write_paused:
            self.transport.write(probe)
        self._probe_in(pause, min(2 * pause, _LONGEST_PAUSE_SECONDS))
