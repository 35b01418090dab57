"""What goes over the wire."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from model.framing import Mode
from server.request_rules import generate_rules
from server.token_stream import FinishReason

MAX_STOP_STRINGS = 4
MAX_STOP_LENGTH = 256
MAX_SAMPLES = 32
MAX_LOGPROBS = 20
MAX_PRIORITY = 10
SESSION_ID = "ses-[0-9a-f]{32}"


def _as_list(value: Any) -> Any:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return value
    raise PydanticCustomError("stop_type", "must be a string or a list of strings")


_StopString = Annotated[str, Field(min_length=1, max_length=MAX_STOP_LENGTH)]
_Stop = Annotated[
    list[_StopString],
    Field(max_length=MAX_STOP_STRINGS),
    BeforeValidator(
        _as_list,
        json_schema_input_type=_StopString
        | Annotated[list[_StopString], Field(max_length=MAX_STOP_STRINGS)],
    ),
]

_GENERATION: dict[str, Any] = {
    "id": "gen-4f0c9d3e7a5b4d21b3f4a1c2d3e4f5a6",
    "model": "copy-bytes",
    "text": "hello",
    "token_ids": [104, 101, 108, 108, 111],
    "finish_reason": "stop",
    "usage": {
        "prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12, "cached_tokens": 0
    },
}  # fmt: skip


class GenerateRequest(BaseModel):
    """What to generate from, and how."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        json_schema_extra={"examples": [{"prompt": "hello"}], **generate_rules(SESSION_ID)},
    )

    model: str | None = Field(
        default=None, description="Name of a model that is served; by default the first one."
    )
    prompt: str | None = Field(
        default=None,
        description="Text to copy, to recall from or to go on from. Give this or `token_ids`.",
    )
    token_ids: Annotated[list[int], Field(fail_fast=True)] | None = Field(
        default=None,
        description="Content ids in place of `prompt`. The special ids that the model needs "
        "around them are added by the server, but in `raw` mode, where they may be among these.",
    )
    mode: Mode = Field(
        default="copy",
        description="`copy`: write the prompt out. `recall`: the prompt is how a passage begins "
        "that the session read; go on from there to the passage's end. `raw`: add no special ids "
        "to the prompt; in a session it may be empty.",
    )
    session_id: str | None = Field(
        default=None,
        description="Go on from this session, and add the prompt and what is generated to it.",
    )
    wait_for_session: bool = Field(
        default=False,
        description="Wait while another request is in the session, as long as `timeout` allows. "
        "By default that is refused with 409.",
    )
    max_tokens: int | None = Field(
        default=None,
        ge=0,
        description="Tokens to generate at most, by default as far as there is room: for a copy "
        "one more than the prompt has, for a recall one more than the session has, else 16. 0, to "
        "read the prompt only, needs `session_id` or `echo`.",
    )
    n: int = Field(
        default=1,
        ge=1,
        le=MAX_SAMPLES,
        description="Samples; they share the memory of the prompt. With `seed`, each draws in its "
        "own repeatable way.",
    )
    temperature: float = Field(
        default=0.0,
        ge=0,
        le=2,
        allow_inf_nan=False,
        description="0 takes the likeliest token; more draws ever more freely.",
    )
    top_k: int = Field(
        default=0,
        ge=0,
        le=2**31 - 1,
        description="Draw from the k likeliest tokens only; 0 for all.",
    )
    top_p: float = Field(
        default=1.0,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Draw from the fewest likeliest tokens whose probabilities reach this sum.",
    )
    min_p: float = Field(
        default=0.0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Draw only from tokens at least this share as likely as the likeliest; 0 for "
        "all.",
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        lt=2**63,  # exact as a JSON number, unlike the largest seed
        description="Makes a draw repeatable; by default it is not.",
    )
    stop: _Stop | None = Field(
        default=None,
        description=f"Up to {MAX_STOP_STRINGS} strings that end the generation. They are not part "
        "of `text`; `token_ids` ends with the id that completed the string.",
    )
    ignore_eos: bool = Field(
        default=False,
        description="Go on after the id that ends a string, as if it were any other; it is then "
        "among `token_ids`.",
    )
    logprobs: int | None = Field(
        default=None,
        ge=0,
        le=MAX_LOGPROBS,
        description="Give the log-probability of every id of the answer, and of this many of the "
        "likeliest in its place.",
    )
    echo: bool = Field(
        default=False,
        description="Begin the answer with the prompt; with `logprobs`, with those of its ids too.",
    )
    priority: int = Field(
        default=0,
        ge=-MAX_PRIORITY,
        le=MAX_PRIORITY,
        description="The lower, the sooner: a step is worth ten seconds of waiting, so that nobody "
        "waits for ever.",
    )
    timeout: float | None = Field(
        default=None,
        gt=0,
        le=86_400,
        allow_inf_nan=False,
        description="Seconds after which the request is given up, with an error.",
    )
    stream: bool = Field(
        default=False, description="Send tokens as they come, as server-sent events."
    )

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if (self.prompt is None) == (self.token_ids is None):
            given = "neither" if self.prompt is None else "both"
            raise PydanticCustomError(
                "one_source",
                "give either 'prompt' or 'token_ids', not {given}",
                {"given": given, "param": "prompt"},
            )
        in_session = self.session_id is not None
        if not (self.prompt or self.token_ids or (in_session and self.mode == "raw")):
            param = "prompt" if self.token_ids is None else "token_ids"
            raise _refusal(param, "must not be empty")
        if self.max_tokens == 0 and not (self.echo or in_session):
            raise _refusal("max_tokens", "must be at least 1 without 'echo' or 'session_id'")
        return self

    @model_validator(mode="after")
    def _check_session(self) -> Self:
        if self.session_id is None:
            if self.mode == "recall":
                raise _refusal("mode", "'recall' needs a 'session_id'")
            if self.wait_for_session:
                raise _refusal("wait_for_session", "needs a 'session_id'")
            return self
        if not re.fullmatch(SESSION_ID, self.session_id):
            raise _refusal("session_id", "must be 'ses-' and 32 hexadecimal digits")
        if self.n > 1:
            raise _refusal("n", "must be 1 with 'session_id'")
        if self.echo and self.logprobs is not None:
            raise _refusal("echo", "cannot be combined with 'logprobs' and 'session_id'")
        return self


def _refusal(param: str, reason: str) -> PydanticCustomError:
    return PydanticCustomError("refused", "{param}: {reason}", {"param": param, "reason": reason})


class TurnInfo(BaseModel):
    """The session that a request went on."""

    id: str
    n_tokens: int = Field(description="Tokens of its log after this turn.")


class Usage(BaseModel):
    """Tokens read and generated."""

    prompt_tokens: int = Field(description="Tokens that the model read, special ones included.")
    completion_tokens: int = Field(description="Tokens generated, of all samples.")
    total_tokens: int = Field(description="Sum of both.")
    cached_tokens: int = Field(
        description="Tokens of the prompt whose memory was there already, from an earlier request."
    )


class TopLogprob(BaseModel):
    """One of the likeliest ids at its place."""

    token_id: int
    logprob: float


class TokenLogprob(BaseModel):
    """How likely an id was: natural logarithms, of the model's own distribution."""

    token_id: int
    logprob: float
    top: list[TopLogprob] = Field(description="The likeliest first.")


class Sample(BaseModel):
    """One of several answers to a prompt."""

    index: int
    text: str
    token_ids: list[int]
    finish_reason: FinishReason
    logprobs: list[TokenLogprob] | None = Field(default=None, description="If asked for.")


class GenerateResponse(BaseModel):
    """A whole generation."""

    model_config = ConfigDict(json_schema_extra={"examples": [_GENERATION]})

    id: str = Field(description="Of this generation; the server's log has it too.")
    model: str
    text: str = Field(description="What was generated, up to the first stop string.")
    token_ids: list[int] = Field(
        description="Every id generated, up to the one that completed a stop string. The id that "
        "ends a string is not among them."
    )
    finish_reason: FinishReason = Field(
        description="`stop`: the model ended, or a stop string came. `length`: `max_tokens` were "
        "generated."
    )
    usage: Usage
    session: TurnInfo | None = Field(default=None, description="With `session_id`.")
    logprobs: list[TokenLogprob] | None = Field(
        default=None, description="One for every id of `token_ids`, if asked for."
    )
    samples: list[Sample] | None = Field(
        default=None, description="All samples, the one above included, if `n` is more than 1."
    )


class GenerateChunk(BaseModel):
    """One event of a stream: what is new since the last one."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **_GENERATION,
                    "index": 0,
                    "text": "h",
                    "token_ids": [104],
                    "finish_reason": None,
                    "usage": None,
                }
            ]
        }
    )

    id: str
    model: str
    index: int = Field(description="Of the sample.")
    text: str = Field(description="New text; whole characters only, so it may lag behind the ids.")
    token_ids: list[int]
    finish_reason: FinishReason | None = Field(
        description="Null but in the last chunk of a sample."
    )
    logprobs: list[TokenLogprob] | None = Field(default=None, description="If asked for.")
    usage: Usage | None = Field(default=None, description="In the very last chunk only.")
    session: TurnInfo | None = Field(
        default=None, description="In the very last chunk, with `session_id`."
    )


class ErrorDetail(BaseModel):
    """What went wrong."""

    type: str = Field(description="A word for programs.")
    message: str = Field(description="A sentence for people.")
    param: str | None = Field(description="The field at fault, if it is one.")


class ErrorResponse(BaseModel):
    """Every error has this shape."""

    error: ErrorDetail


class LiveResponse(BaseModel):
    """The process answers."""

    status: Literal["live"] = "live"


class ReadyResponse(BaseModel):
    """The engine moves; and how much of it is in use, at this moment."""

    status: Literal["ready"] = "ready"
    running: int = Field(description="Samples that take part in steps.")
    waiting: int = Field(description="Samples that wait for a place.")
    pages_used: int = Field(
        description="Pages of the memory pool in use, those of idle sessions included."
    )
    pages_total: int = Field(description="Pages of the memory pool.")


class TokenizerInfo(BaseModel):
    """How text becomes ids."""

    name: str
    vocab_size: int
    bos_id: int
    sep_id: int
    eos_id: int


class Limits(BaseModel):
    """What a request may ask for, and what the server holds."""

    max_seq_len: int = Field(
        description="Tokens of prompt, special ones and `max_tokens` together."
    )
    max_tokens: int = Field(description="Largest `max_tokens`.")
    max_body_bytes: int
    max_running: int = Field(description="Samples that run at once.")
    max_waiting: int = Field(description="Samples that may wait beyond these.")
    max_batch_tokens: int = Field(description="Tokens of one step.")
    pool_tokens: int = Field(description="Tokens that all running requests hold together.")
    pool_bytes: int = Field(description="Memory for them and for the fixed-size states.")
    max_samples: int = Field(default=MAX_SAMPLES, description="Largest `n`.")
    max_logprobs: int = Field(default=MAX_LOGPROBS, description="Largest `logprobs`.")
    max_sessions: int = Field(description="Sessions that the store holds.")
    max_session_tokens: int = Field(description="Tokens of a session's log.")
    session_ttl_seconds: float = Field(description="Largest `ttl_seconds`.")
    max_snapshot_bytes: int = Field(description="Largest snapshot that can be restored.")
    max_stop_strings: int = MAX_STOP_STRINGS
    max_stop_length: int = Field(
        default=MAX_STOP_LENGTH, description="Characters of a stop string."
    )


class InfoResponse(BaseModel):
    """What is served, by which version, within which limits."""

    model: str
    fingerprint: str = Field(description="SHA-256 of the weights.")
    version: str = Field(description="Of the server.")
    config: dict[str, Any] = Field(description="Shape of the model.")
    tokenizer: TokenizerInfo
    limits: Limits
