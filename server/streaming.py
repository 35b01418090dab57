"""From a stream of deltas to HTTP, and back to the engine when the client leaves."""

import asyncio
import json
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Response
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from model.sampling import TokenLogprob
from server.errors import ApiError
from server.journal import JournaledTurn
from server.token_stream import Delta, TokenStream

HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
"""Of every generation: nobody on the way may keep it, or hold it back."""

_CLIENT_LEFT = 499  # what logs call it; no one is there to read it

T = TypeVar("T")


class EventStream(Response):
    """Server-sent events of a generation: one a delta, then `[DONE]`.

    An error after the first byte is an event of its own, and the last one. Closes the stream
    however it ends.

    Args:
        stream: of the generation; this response closes it.
        model: name of the model.
    """

    media_type = "text/event-stream"

    def __init__(self, stream: TokenStream, model: str) -> None:
        self._stream = stream
        self._model = model
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
        head = f'{{"id":{_text(self._stream.id)},"model":{_text(self._model)},'
        try:
            async for delta in self._stream:
                await _send_event(send, f"{head}{self._chunk(delta)}}}")
            await _send_event(send, "[DONE]")
        except ApiError as error:
            await _send_event(send, _json(error.body()))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _chunk(self, delta: Delta) -> str:
        """A `GenerateChunk` but for its head, as JSON. There is one a token, so it is made fast."""
        reason = "null" if delta.finish_reason is None else f'"{delta.finish_reason}"'
        chunk = (
            f'"index":{delta.index},"text":{_text(delta.text)},'
            f'"token_ids":[{",".join(map(str, delta.token_ids))}],"finish_reason":{reason}'
        )
        if delta.logprobs is not None:
            chunk += f',"logprobs":{_json(_logprobs(delta.logprobs))}'
        if delta.finish_reason is not None and self._stream.is_read:
            chunk += f',"usage":{_json(_usage(self._stream))}'
            if self._stream.turn is not None:
                chunk += f',"session":{_json(_session(self._stream.turn))}'
        return chunk


async def whole_response(stream: TokenStream, model: str, receive: Receive) -> Response:
    """A generation as one JSON document; closes the stream however it ends.

    Raises:
        ApiError: the engine failed.
    """
    async with stream:
        try:
            deltas = await unless_disconnected(receive, _collect(stream))
        except ClientDisconnect:
            return nobody_reads()
    samples = [_sample(delta) for delta in deltas]
    answer = {"id": stream.id, "model": model} | samples[0] | {"usage": _usage(stream)}
    del answer["index"]
    if stream.turn is not None:
        answer["session"] = _session(stream.turn)
    if len(samples) > 1:
        answer["samples"] = samples
    return Response(_json(answer), headers=HEADERS, media_type="application/json")


def nobody_reads() -> Response:
    """For a client that has left."""
    return Response(status_code=_CLIENT_LEFT)


async def unless_disconnected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Await `work`, but give it up when the client leaves first.

    Args:
        receive: of a request whose body has been read.
        work: cancelled when the client leaves.

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


async def _collect(stream: TokenStream) -> list[Delta]:
    """The whole of each sample."""
    parts: list[list[Delta]] = [[] for _ in range(stream.n_samples)]
    async for delta in stream:
        parts[delta.index].append(delta)
    return [Delta.join(part) for part in parts]


async def _send_event(send: Send, data: str) -> None:
    body = f"data: {data}\n\n".encode()
    await send({"type": "http.response.body", "body": body, "more_body": True})


_text = json.encoder.encode_basestring
"""A string as JSON."""


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _sample(delta: Delta) -> dict[str, Any]:
    sample: dict[str, Any] = {
        "index": delta.index,
        "text": delta.text,
        "token_ids": delta.token_ids,
        "finish_reason": delta.finish_reason,
    }
    if delta.logprobs is not None:
        sample["logprobs"] = _logprobs(delta.logprobs)
    return sample


def _logprobs(logprobs: list[TokenLogprob]) -> list[dict[str, Any]]:
    return [
        {
            "token_id": one.token_id,
            "logprob": one.logprob,
            "top": [{"token_id": id, "logprob": logprob} for id, logprob in one.top],
        }
        for one in logprobs
    ]


def _usage(stream: TokenStream) -> dict[str, int]:
    read, made = stream.n_prompt_tokens, stream.n_completion_tokens
    return {
        "prompt_tokens": read,
        "completion_tokens": made,
        "total_tokens": read + made,
        "cached_tokens": stream.progress.n_cached,
    }


def _session(turn: JournaledTurn) -> dict[str, Any]:
    return {"id": turn.session_id, "n_tokens": turn.n_tokens}
