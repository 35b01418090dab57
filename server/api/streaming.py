"""Sends a stream of deltas over HTTP, and ends it when the client leaves."""

import asyncio
from collections.abc import Awaitable, Coroutine, Iterable
from typing import Any, Protocol, TypeVar

from fastapi import Response
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from causalrn.server.api.comments import COMMENT_SECONDS, commented
from causalrn.server.engine.deltas import Delta
from causalrn.server.engine.merged_stream import MergedStream
from causalrn.server.engine.token_stream import TokenStream
from causalrn.server.errors import ServiceError
from causalrn.server.http.compact_json import compact_json, compact_json_in_pieces

HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
"""Headers of every generation: no proxy on the way may store it, or hold it back."""

_FEW_LOGPROBS = 64  # which are written in a millisecond

T = TypeVar("T")

DeltaStream = TokenStream | MergedStream
"""Where the deltas of an answer come from."""


class Format(Protocol):
    """Writes one answer. Each answer has one of its own, which gets its deltas in order."""

    def chunks(self, delta: Delta) -> Iterable[str]:
        """What is new in one sample, as JSON, for any number of events.

        This must be fast: it runs for every token.
        """

    def ending(self) -> Iterable[str]:
        """What to send after the last delta of a stream, each as JSON."""

    def whole(self, samples: list[Delta]) -> dict[str, Any]:
        """A whole answer, from one delta for each sample."""

    def error(self, error: ServiceError) -> dict[str, Any]:
        """The last event of a stream that failed."""


class EventStream(Response):
    """A generation as server-sent events, then `[DONE]`.

    An error after the first byte is sent as the last event. Closes the stream, however it ends.

    Args:
        stream: the deltas of the generation; this response closes it.
        format: writes the events.

    Attributes:
        comment_seconds: after how much silence there is a comment.
    """

    media_type = "text/event-stream"
    comment_seconds = COMMENT_SECONDS

    def __init__(self, stream: DeltaStream, format: Format) -> None:
        self._stream = stream
        self._format = format
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send the events, until the last or until the client leaves."""
        async with self._stream:
            try:
                await unless_disconnected(receive, self._send_events(send))
            except ClientDisconnect:
                return

    async def _send_events(self, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        format = self._format
        async with commented(send, self.comment_seconds) as send_event:
            try:
                async for delta in self._stream:
                    for number, event in enumerate(format.chunks(delta)):
                        if number:  # a long delta; sending alone may let nobody else run
                            await asyncio.sleep(0)
                        await _send_event(send_event, event)
                for event in format.ending():
                    await _send_event(send_event, event)
                await _send_event(send_event, "[DONE]")
            except ServiceError as error:
                await _send_event(send_event, compact_json(format.error(error)))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def whole_response(stream: DeltaStream, format: Format, receive: Receive) -> Response:
    """A generation as one JSON document; closes the stream however it ends.

    Raises:
        ServiceError: the engine failed.
        ClientDisconnect: the client left.
    """
    async with stream:
        samples = await unless_disconnected(receive, _collect(stream))
    if sum(len(sample.logprobs or ()) for sample in samples) > _FEW_LOGPROBS:
        answer = await asyncio.to_thread(
            lambda: compact_json_in_pieces(format.whole(samples)).encode()
        )
    else:
        answer = compact_json(format.whole(samples)).encode()
    return Response(answer, headers=HEADERS, media_type="application/json")


async def unless_disconnected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Await `work`, but cancel it when the client leaves first.

    Args:
        receive: from ASGI; the body has been read already.
        work: what the client waits for.

    Raises:
        ClientDisconnect: the client left.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _collect(stream: DeltaStream) -> list[Delta]:
    """The whole of each sample."""
    parts: list[list[Delta]] = [[] for _ in range(stream.n_samples)]
    async for delta in stream:
        parts[delta.index].append(delta)
    return [Delta.join(part) for part in parts]


def _send_event(send: Send, data: str) -> Awaitable[None]:
    body = f"data: {data}\n\n".encode()
    return send({"type": "http.response.body", "body": body, "more_body": True})
