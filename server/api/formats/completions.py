"""Answers of `POST /v1/completions` as JSON."""

import time
from collections.abc import Iterable
from typing import Any

from model.sampling import TokenLogprob
from model.tokenizer import Tokenizer
from server.api.formats.generate import session
from server.api.streaming import DeltaStream
from server.engine.deltas import Delta
from server.errors import ServiceError
from server.http.compact_json import compact_json, json_string
from server.http.errors import openai_body, status_of
from server.sessions.turn import Turn


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
        self._offsets: dict[int, _Offsets] = {}
        self._known = {
            "id": f"cmpl-{stream.id.removeprefix('gen-')}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": stream.model,
        }
        self._head = compact_json(self._known)[:-1]

    def chunk(self, delta: Delta) -> str:
        """See `Format.chunk`."""
        self._n_read += delta.n_generated
        reason = "null" if delta.finish_reason is None else f'"{delta.finish_reason}"'
        logprobs = "null" if delta.logprobs is None else compact_json(self._logprobs(delta))
        chunk = (
            f'{self._head},"choices":[{{"index":{delta.index},"text":{json_string(delta.text)},'
            f'"token_ids":[{",".join(map(str, delta.token_ids))}],"logprobs":{logprobs},'
            f'"finish_reason":{reason}}}]'
        )
        if self._continuous_usage:
            chunk += f',"usage":{compact_json(self._usage(self._n_read))}'
        elif self._include_usage:
            chunk += ',"usage":null'
        if delta.finish_reason is not None and self._turn is not None:
            chunk += f',"session":{compact_json(session(self._turn))}'
        return chunk + "}"

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
        offsets = self._offsets.setdefault(delta.index, _Offsets(tokenizer))
        logprobs = list(delta.logprobs or ())
        places = offsets.of(delta.token_ids, delta.n_echoed)
        if delta.eos_logprob is not None:
            logprobs.append(delta.eos_logprob)
            places.append(offsets.end())
        return {
            "tokens": [tokenizer.token(one.token_id) for one in logprobs],
            "token_logprobs": [one.logprob for one in logprobs],
            "top_logprobs": [_top(tokenizer, one) for one in logprobs],
            "text_offset": places,
        }


class _Offsets:
    """Where in the text of a choice its tokens begin."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._decoder = tokenizer.stream_decoder()
        self._n_characters = 0

    def of(self, token_ids: list[int], n_echoed: int) -> list[int]:
        """The places of the next tokens; the first `n_echoed` are the prompt's, a text apart."""
        places = [self._pass(token_id) for token_id in token_ids[:n_echoed]]
        if n_echoed:
            self.end()
        return places + [self._pass(token_id) for token_id in token_ids[n_echoed:]]

    def end(self) -> int:
        """Where the text ends, when it has no more tokens."""
        self._n_characters += len(self._decoder.flush())
        return self._n_characters

    def _pass(self, token_id: int) -> int:
        place = self._n_characters
        self._n_characters += len(self._decoder.push([token_id]))
        return place


def _top(tokenizer: Tokenizer, logprob: TokenLogprob) -> dict[str, float] | None:
    """The likeliest tokens and the token itself, likeliest first."""
    if logprob.logprob is None:
        return None
    top = {tokenizer.token(token_id): value for token_id, value in logprob.top}
    top.setdefault(tokenizer.token(logprob.token_id), logprob.logprob)
    return top
