"""Raw exchanges with a server: any bytes, on many connections at once."""

import asyncio
import logging
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from causalrn.server.http.protocol import GuardedProtocol
from tests.server.live_server import LiveServer

PATIENCE = 0.8  # seconds


class QuickProtocol(GuardedProtocol):
    """Loses patience soon, but not sooner than a busy machine needs for an honest request."""

    head_seconds = PATIENCE
    write_seconds = PATIENCE

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.timeout_keep_alive = PATIENCE  # type: ignore[assignment]


def post(body: bytes, *headers: bytes, path: bytes = b"/generate", length: bool = True) -> bytes:
    """A whole `POST` that asks for the connection to be closed."""
    head = [
        b"POST %s HTTP/1.1" % path,
        b"host: test",
        b"content-type: application/json",
        b"connection: close",
        *headers,
        *([b"content-length: %d" % len(body)] if length else []),
    ]
    return b"\r\n".join([*head, b"", body])


GOOD = post(b'{"prompt": "hi"}')


def exchange(live: LiveServer, *requests: bytes) -> list[bytes]:
    """What each of some connections got until the server closed it; sent all at once."""
    connections = [live.connect() for _ in requests]
    try:
        for connection, request in zip(connections, requests, strict=True):
            send(connection, request)
        return [read_all(connection) for connection in connections]
    finally:
        for connection in connections:
            connection.close()


def send(connection: socket.socket, data: bytes) -> bool:
    """Send data; False if the server has hung up."""
    try:
        connection.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


def read_all(connection: socket.socket) -> bytes:
    """Everything until the server hangs up."""
    answer = b""
    try:
        while piece := connection.recv(65536):
            answer += piece
    except ConnectionResetError:  # it hung up before it had read everything
        pass
    return answer


def statuses(answer: bytes) -> list[int]:
    """The status of every response, those in between included."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) [\w -]*\r\n", answer)]


def assert_refused(answer: bytes) -> None:
    """A 4xx, or nothing at all."""
    found = statuses(answer)
    assert bool(found) == bool(answer), answer
    assert all(status == 100 or 400 <= status < 500 for status in found), answer


def assert_harmless(answer: bytes) -> None:
    """No 5xx."""
    found = statuses(answer)
    assert bool(found) == bool(answer), answer
    assert all(status < 500 for status in found), answer


@contextmanager
def unharmed(live: LiveServer) -> Iterator[None]:
    """At the end nothing is left of what was sent, nothing was logged, and the server serves."""
    handler = _Errors(logging.ERROR)
    loggers = [logging.getLogger(name) for name in ("uvicorn.error", "server", "asyncio")]
    assert live.post({"prompt": "hi"}).json()["text"] == "hi"
    live.wait_until(lambda: not live.n_connections)
    before = _n_tasks(live), {*threading.enumerate()}
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
        assert live.post({"prompt": "hi"}).json()["text"] == "hi"
        live.wait_until_idle()
        live.wait_until(lambda: not live.n_connections and not live.n_tasks)
        live.wait_until(lambda: _n_tasks(live) <= before[0])
        # Those of pools wait for more work.
        new = [one.name for one in {*threading.enumerate()} - before[1]]
        assert [name for name in new if not name.startswith(("asyncio_", "uvloop_"))] == [], new
        assert handler.messages == []
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


class _Errors(logging.Handler):
    """Remembers what was logged."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def _n_tasks(live: LiveServer) -> int:
    async def count() -> int:
        return len(asyncio.all_tasks())

    return live.run(count())
