"""What goes over the wire."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from model.framing import Mode
from server.api.schemas.generation_fields import (
    MAX_LOGPROBS,
    MAX_SAMPLES,
    MAX_STOP_LENGTH,
    MAX_STOP_STRINGS,
    MODES,
    GenerationFields,
    Source,
)
from server.engine.token_stream import FinishReason

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


class GenerateRequest(GenerationFields):
    """What to generate from, and how."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"prompt": "hello"}]})

    prompt: str | None = Field(
        default=None,
        description="Text to copy, to recall from or to go on from. Give this or `token_ids`.",
    )
    token_ids: Annotated[list[int], Field(fail_fast=True)] | None = Field(
        default=None,
        description="Content ids in place of `prompt`. The special ids that the model needs "
        "around them are added by the server, but in `raw` mode, where they may be among these.",
    )
    mode: Mode = Field(default="copy", description=MODES)

    def sources(self) -> list[Source]:
        """The prompt, whichever way it is given."""
        if self.prompt is not None and self.token_ids is None:
            return [Source("prompt", self.prompt, self.mode)]
        if self.token_ids is not None and self.prompt is None:
            return [Source("token_ids", self.token_ids, self.mode)]
        raise PydanticCustomError(
            "one_source",
            "give either 'prompt' or 'token_ids', not {given}",
            {"given": "neither" if self.prompt is None else "both", "param": "prompt"},
        )


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
    logprob: float | None = Field(
        description="Null for the first id of a context, which nothing comes before."
    )
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
    """The engines move; and how much of them is in use, at this moment."""

    status: Literal["ready"] = "ready"
    running: int = Field(description="Samples that take part in steps.")
    waiting: int = Field(description="Samples that wait for a place.")
    pages_used: int = Field(
        description="Pages of the memory pools in use, those of idle sessions included."
    )
    pages_total: int = Field(description="Pages of the memory pools of all models.")


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
    models: list[str] = Field(
        description="Names of all models that are served, the default one first."
    )
    fingerprint: str = Field(description="SHA-256 of the weights.")
    version: str = Field(description="Of the server.")
    config: dict[str, Any] = Field(description="Shape of the model.")
    tokenizer: TokenizerInfo
    limits: Limits
