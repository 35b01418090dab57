"""Answers of `POST /v1/completions` as JSON."""

import time
from bisect import bisect_right
from collections.abc import Iterable
from typing import Any

from causalrn.model.sampling import TokenLogprob
from causalrn.model.tokenizers.base import Tokenizer
from causalrn.server.api.formats.generate import quality, session
from causalrn.server.api.formats.pieces import pieces
from causalrn.server.api.streaming import DeltaStream
from causalrn.server.engine.deltas import Delta
from causalrn.server.errors import ServiceError
from causalrn.server.http.compact_json import compact_json, json_string
from causalrn.server.http.errors import openai_body, status_of
from causalrn.server.sessions.turn import Turn


class CompletionFormat:
    """Writes a `Completion`, or those of a stream.

    Args:
        stream: the generation to write.
        turn: the turn of a session that it is; None without a session.
        include_usage: whether a stream ends with a chunk that has the usage and no choices.
        continuous_usage: whether every chunk has the usage so far.
    """

    def __init__(
        self,
        stream: DeltaStream,
        turn: Turn | None = None,
        *,
        include_usage: bool = False,
        continuous_usage: bool = False,
    ) -> None:
        self._stream = stream
        self._turn = turn
        self._include_usage = include_usage
        self._continuous_usage = continuous_usage
        self._n_read = 0
        self._held: dict[int, Delta] = {}
        self._known = {
            "id": f"cmpl-{stream.id.removeprefix('gen-')}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": stream.model,
        }
        self._head = compact_json(self._known)[:-1]

    def chunks(self, delta: Delta) -> Iterable[str]:
        """See `Format.chunks`."""
        if delta.logprobs is not None:
            if (before := self._held.pop(delta.index, None)) is not None:
                delta = Delta.join([before, delta])
            n_certain = bisect_right(delta.places, delta.text_end)
            if delta.finish_reason is None and n_certain < len(delta.places):
                # A stop string may still cut the text off before where these tokens begin.
                delta, self._held[delta.index] = delta.split(n_certain)
                if not (delta.token_ids or delta.text):
                    return ()
        return map(self._chunk, pieces(delta))

    def ending(self) -> Iterable[str]:
        """See `Format.ending`."""
        if self._include_usage:
            usage = compact_json(self._usage(self._n_read))
            yield f'{self._head},"choices":[],"usage":{usage}}}'

    def whole(self, samples: list[Delta]) -> dict[str, Any]:
        """See `Format.whole`."""
        choices = [
            {
                "index": delta.index,
                "text": delta.text,
                "token_ids": delta.token_ids,
                "logprobs": None if delta.logprobs is None else self._logprobs(delta),
                "finish_reason": delta.finish_reason,
            }
            | quality(delta)
            for delta in samples
        ]
        usage = self._usage(self._stream.n_completion_tokens)
        answer = self._known | {"choices": choices, "usage": usage}
        if self._turn is not None:
            answer["session"] = session(self._turn)
        return answer

    def error(self, error: ServiceError) -> dict[str, Any]:
        """See `Format.error`."""
        return openai_body(status_of(error), error.type, error.message, error.param)

    def _chunk(self, delta: Delta) -> str:
        self._n_read += delta.n_generated
        reason = "null" if delta.finish_reason is None else f'"{delta.finish_reason}"'
        logprobs = "null" if delta.logprobs is None else compact_json(self._logprobs(delta))
        chunk = (
            f'{self._head},"choices":[{{"index":{delta.index},"text":{json_string(delta.text)},'
            f'"token_ids":[{",".join(map(str, delta.token_ids))}],"logprobs":{logprobs},'
            f'"finish_reason":{reason}'
        )
        if delta.finish_reason is not None:
            chunk += f",{compact_json(quality(delta))[1:-1]}"
        chunk += "}]"
        if self._continuous_usage:
            chunk += f',"usage":{compact_json(self._usage(self._n_read))}'
        elif self._include_usage:
            chunk += ',"usage":null'
        if delta.finish_reason is not None and self._turn is not None:
            chunk += f',"session":{compact_json(session(self._turn))}'
        return chunk + "}"

    def _usage(self, n_completion_tokens: int) -> dict[str, Any]:
        n_prompt_tokens = self._stream.n_prompt_tokens
        return {
            "prompt_tokens": n_prompt_tokens,
            "completion_tokens": n_completion_tokens,
            "total_tokens": n_prompt_tokens + n_completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self._stream.n_cached},
        }

    def _logprobs(self, delta: Delta) -> dict[str, Any]:
        tokenizer = self._stream.tokenizer
        assert tokenizer is not None
        logprobs = list(delta.logprobs or ())
        # Tokens of a stop string, which is cut off, are at the end.
        places = [min(place, delta.text_end) for place in delta.places]
        if delta.eos_logprob is not None:
            logprobs.append(delta.eos_logprob)
            places.append(delta.text_end)
        return {
            "tokens": [tokenizer.token(one.token_id) for one in logprobs],
            "token_logprobs": [one.logprob for one in logprobs],
            "top_logprobs": [_top(tokenizer, one) for one in logprobs],
            "text_offset": places,
        }


def _top(tokenizer: Tokenizer, logprob: TokenLogprob) -> dict[str, float] | None:
    """The likeliest tokens and the token itself, likeliest first."""
    if logprob.logprob is None:
        return None
    top = {tokenizer.token(token_id): value for token_id, value in logprob.top}
    top.setdefault(tokenizer.token(logprob.token_id), logprob.logprob)
    return top
