"""What goes over the wire."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

FinishReason = Literal["stop", "length"]
"""`stop`: the model ended, or a stop string came. `length`: `max_tokens` were generated."""

MAX_STOP_STRINGS = 4
MAX_STOP_LENGTH = 256


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
    BeforeValidator(_as_list, json_schema_input_type=_StopString | list[_StopString]),
]

_GENERATION: dict[str, Any] = {
    "id": "gen-4f0c9d3e7a5b4d21b3f4a1c2d3e4f5a6",
    "model": "copy-bytes",
    "text": "hello",
    "token_ids": [104, 101, 108, 108, 111],
    "finish_reason": "stop",
    "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12},
}


class GenerateRequest(BaseModel):
    """What to generate from, and how."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        json_schema_extra={"examples": [{"prompt": "hello"}]},
    )

    prompt: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="Text to copy. Give this or `token_ids`."
    )
    token_ids: Annotated[list[int], Field(min_length=1, fail_fast=True)] | None = Field(
        default=None,
        description="Content ids to copy, in place of `prompt`. The special ids that the model "
        "needs around them are added by the server.",
    )
    max_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Tokens to generate at most. By default what a copy needs: one more than the "
        "prompt has, as far as the model can hold them.",
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
    seed: int | None = Field(
        default=None,
        ge=0,
        le=2**63 - 1,
        description="Makes a draw repeatable; by default it is not.",
    )
    stop: _Stop | None = Field(
        default=None,
        description=f"Up to {MAX_STOP_STRINGS} strings that end the generation. They are not part "
        "of `text`; `token_ids` ends with the id that completed the string.",
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
        return self


class Usage(BaseModel):
    """Tokens read and generated."""

    prompt_tokens: int = Field(description="Tokens that the model read, special ones included.")
    completion_tokens: int = Field(description="Length of `token_ids`.")
    total_tokens: int = Field(description="Sum of both.")


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
    finish_reason: FinishReason
    usage: Usage


class GenerateChunk(BaseModel):
    """One event of a stream: what is new since the last one."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{**_GENERATION, "text": "h", "token_ids": [104], "finish_reason": None}]
        }
    )

    id: str
    model: str
    text: str = Field(description="New text; whole characters only, so it may lag behind the ids.")
    token_ids: list[int]
    finish_reason: FinishReason | None = Field(description="Null but in the last chunk.")
    usage: Usage | None = Field(default=None, description="In the last chunk only.")


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
    running: int = Field(description="Requests that take part in steps.")
    waiting: int = Field(description="Requests that wait for a place.")
    pages_used: int = Field(description="Pages of the memory pool in use.")
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
    max_running: int = Field(description="Requests that run at once.")
    max_waiting: int = Field(description="Requests that may wait beyond these.")
    max_batch_tokens: int = Field(description="Tokens of one step.")
    pool_tokens: int = Field(description="Tokens that all running requests hold together.")
    pool_bytes: int = Field(description="Memory for them and for the fixed-size states.")
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
