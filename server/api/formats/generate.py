"""Answers of `POST /generate` as JSON."""

from collections.abc import Iterable
from typing import Any

from causalrn.model.sampling import TokenLogprob
from causalrn.server.api.formats.pieces import pieces
from causalrn.server.api.streaming import DeltaStream
from causalrn.server.engine.deltas import Delta
from causalrn.server.errors import ServiceError
from causalrn.server.http.compact_json import compact_json, json_string
from causalrn.server.http.errors import error_body
from causalrn.server.sessions.turn import Turn


class GenerateFormat:
    """Writes a `GenerateResponse`, or the `GenerateChunk`s of a stream.

    Args:
        stream: the generation to write.
        turn: the turn of a session that it is; None without a session.
    """

    def __init__(self, stream: DeltaStream, turn: Turn | None = None) -> None:
        self._stream = stream
        self._turn = turn
        self._n_running = stream.n_samples
        self._head = f'{{"id":{json_string(stream.id)},"model":{json_string(stream.model)},'

    def chunks(self, delta: Delta) -> Iterable[str]:
        """See `Format.chunks`."""
        return map(self._chunk, pieces(delta))

    def ending(self) -> Iterable[str]:
        """See `Format.ending`: the last chunk has it all."""
        return ()

    def whole(self, samples: list[Delta]) -> dict[str, Any]:
        """See `Format.whole`."""
        stream = self._stream
        written = [_sample(delta) for delta in samples]
        answer = {"id": stream.id, "model": stream.model} | written[0] | {"usage": _usage(stream)}
        del answer["index"]
        if self._turn is not None:
            answer["session"] = session(self._turn)
        if len(written) > 1:
            answer["samples"] = written
        return answer

    def error(self, error: ServiceError) -> dict[str, Any]:
        """See `Format.error`."""
        return error_body(error.type, error.message, error.param)

    def _chunk(self, delta: Delta) -> str:
        reason = "null" if delta.finish_reason is None else f'"{delta.finish_reason}"'
        chunk = (
            f'{self._head}"index":{delta.index},"text":{json_string(delta.text)},'
            f'"token_ids":[{",".join(map(str, delta.token_ids))}],"finish_reason":{reason}'
        )
        if delta.finish_reason is not None:
            chunk += f",{compact_json(quality(delta))[1:-1]}"
        if delta.logprobs is not None:
            chunk += f',"logprobs":{compact_json(_logprobs(delta.logprobs))}'
        if delta.finish_reason is not None:
            self._n_running -= 1
            if not self._n_running:
                chunk += f',"usage":{compact_json(_usage(self._stream))}'
                if self._turn is not None:
                    chunk += f',"session":{compact_json(session(self._turn))}'
        return chunk + "}"


def session(turn: Turn) -> dict[str, Any]:
    """What an answer says of the session that its request was a turn of."""
    return {"id": turn.session_id, "n_tokens": turn.n_tokens}


def quality(delta: Delta) -> dict[str, Any]:
    """What an answer says of how good it is, from the last delta of a sample."""
    return {"match": delta.match, "verified": delta.verified}


def _sample(delta: Delta) -> dict[str, Any]:
    sample: dict[str, Any] = {
        "index": delta.index,
        "text": delta.text,
        "token_ids": delta.token_ids,
        "finish_reason": delta.finish_reason,
    } | quality(delta)
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


def _usage(stream: DeltaStream) -> dict[str, int]:
    read, made = stream.n_prompt_tokens, stream.n_completion_tokens
    return {
        "prompt_tokens": read,
        "completion_tokens": made,
        "total_tokens": read + made,
        "cached_tokens": stream.n_cached,
    }
