"""Requests over HTTP whose answers are recorded as they come, and read when they are over.

While an answer comes, each read from the socket costs one look at the clock. Everything else waits
until the end, so that sending the load takes little from the server on the same machine. Every
request has a connection of its own. Nothing is sent again.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import httptools

from benchmarks.timeline import Timeline
from causalrn_client.sse import SSEDecoder

_ALL_SECONDS = 600  # that requests sent together may take


@dataclass
class Reply:
    """An answer, read.

    Attributes:
        status: of HTTP.
        headers: by name in lower case.
        body: whole, of whatever type.
        events: of an event stream: when each was complete, and its data.
        is_whole: whether the answer arrived to its end.
    """

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    events: list[tuple[float, str]] = field(default_factory=list)
    is_whole: bool = False


class Recording(asyncio.Protocol):
    """Sends one request; keeps what comes back, and when.

    Args:
        request: as it goes over the wire.

    Attributes:
        began: before the connection was made.
        pieces: what came, with the time of each.
        heard: set when anything has come.
        over: done when the connection is closed.
    """

    def __init__(self, request: bytes) -> None:
        self.began = time.perf_counter()
        self.pieces: list[tuple[float, bytes]] = []
        self.heard = asyncio.Event()
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        cast(asyncio.Transport, transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        """Keep a piece."""
        self.pieces.append((time.perf_counter(), data))
        self.heard.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the reply tells
        """Note the end."""
        self.heard.set()
        if not self.over.done():
            self.over.set_result(None)

    def reply(self) -> Reply:
        """Read the answer."""
        return read_reply(self.pieces)


@asynccontextmanager
async def sending(
    url: str, method: str, path: str, content: bytes = b"", media_type: str = "application/json"
) -> AsyncIterator[Recording]:
    """Send a request; the end of the block closes its connection, whatever has come by then.

    Args:
        url: of the server, `http://host:port`.
        method: of the request.
        path: of the request, with its query.
        content: of the request, of this type.
        media_type: of the content.

    Raises:
        OSError: no connection could be made.
    """
    where = urlsplit(url)
    head = (
        f"{method} {path} HTTP/1.1\r\nhost: {where.netloc}\r\ncontent-type: {media_type}\r\n"
        f"content-length: {len(content)}\r\nconnection: close\r\n\r\n"
    )
    recording = Recording(head.encode() + content)
    transport, _ = await asyncio.get_running_loop().create_connection(
        lambda: recording, where.hostname or "127.0.0.1", where.port or 80
    )
    try:
        yield recording
    finally:
        transport.abort()


async def post(url: str, path: str, body: dict[str, Any]) -> Recording:
    """Send JSON to a server, and wait for its whole answer.

    Raises:
        OSError: no connection could be made.
    """
    async with sending(url, "POST", path, json.dumps(body).encode()) as recording:
        await recording.over
    return recording


def read_reply(pieces: list[tuple[float, bytes]]) -> Reply:
    """Read the pieces of an answer."""
    reader = _Reader()
    events = SSEDecoder()
    reply = reader.reply
    for moment, data in pieces:
        n_read = len(reader.body)
        reader.parser.feed_data(data)
        if reply.headers.get("content-type", "").startswith("text/event-stream"):
            new = events.feed(bytes(reader.body[n_read:]))
            reply.events += [(moment, event.data) for event in new]
    reply.body = bytes(reader.body)
    return reply


async def post_all(url: str, path: str, bodies: Sequence[dict[str, Any]]) -> list[Recording]:
    """Send all requests at once, and wait until all are over."""
    async with asyncio.timeout(_ALL_SECONDS):
        return await asyncio.gather(*(post(url, path, body) for body in bodies))


def timelines(
    recordings: Sequence[Recording], count_tokens: Callable[[str], int], n_tokens: int
) -> list[Timeline]:
    """When the tokens of each stream came.

    Args:
        recordings: of the streams.
        count_tokens: tells how many tokens an event brings, from its data.
        n_tokens: how many tokens each stream must bring.

    Raises:
        SystemExit: an answer is an error or not whole, or brings another number of tokens.
    """
    found = []
    for recording in recordings:
        reply = recording.reply()
        if reply.status != 200 or not reply.is_whole:
            raise SystemExit(f"status {reply.status}: {reply.body.decode(errors='replace')}")
        timeline = Timeline(recording.began)
        for moment, data in reply.events:
            timeline.add(moment, count_tokens(data))
        if timeline.n_tokens != n_tokens:
            raise SystemExit(f"{timeline.n_tokens} tokens came instead of {n_tokens}")
        found.append(timeline)
    return found


def count_ids(data: str) -> int:
    """How many tokens an event of `POST /generate` brings.

    Raises:
        ValueError: the event is an error.
    """
    if data == "[DONE]":
        return 0
    chunk = json.loads(data)
    if "error" in chunk:
        raise ValueError(data)
    return len(chunk["token_ids"])


class _Reader:
    """Collects what the parser of HTTP finds."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.reply = Reply()
        self.body = bytearray()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.reply.headers[name.decode().lower()] = value.decode()

    def on_headers_complete(self) -> None:
        self.reply.status = self.parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.reply.is_whole = True
