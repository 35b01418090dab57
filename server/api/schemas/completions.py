"""The JSON of `POST /v1/completions`."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    WithJsonSchema,
    model_validator,
)

from causalrn.server.api.schemas.generate import REASONS, Match, TurnInfo, Verified
from causalrn.server.api.schemas.generation_fields import (
    MAX_SAMPLES,
    MODES,
    GenerationFields,
    Source,
    refusal,
)
from causalrn.server.api.schemas.prompts import MAX_CHOICES, read_prompts
from causalrn.server.api.schemas.unsupported_fields import UnsupportedFields
from causalrn.server.engine.deltas import FinishReason
from causalrn.server.engine.modes import RAW

_IDS = {"type": "array", "items": {"type": "integer", "minimum": 0}}
_TEXT = {"type": "string"}
_FORMS = [
    _TEXT,
    {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": MAX_CHOICES},
    _IDS,
    {"type": "array", "items": _IDS, "minItems": 1, "maxItems": MAX_CHOICES},
]


def _complete_schema(schema: dict[str, Any]) -> None:
    """Add examples, and that every field which may be left out may be null."""
    schema["examples"] = [{"model": "copy-bytes", "prompt": "hello"}]
    null = {"type": "null"}
    for name, field in schema["properties"].items():
        if name not in schema["required"] and null not in field.get("anyOf", ()):
            described = {key: field.pop(key) for key in ("title", "description") if key in field}
            schema["properties"][name] = {"anyOf": [field, null], **described}


class StreamOptions(BaseModel):
    """What a stream sends besides text."""

    model_config = ConfigDict(strict=True, extra="forbid")

    include_usage: bool = Field(
        default=False, description="End the stream with a chunk that has the usage, and no choices."
    )
    continuous_usage_stats: bool = Field(
        default=False, description="Send the usage so far in every chunk."
    )
    include_obfuscation: bool = Field(
        default=False, description="Not supported: leave it out or false."
    )


class CompletionRequest(GenerationFields, UnsupportedFields):
    """What to complete, and how. A field that is `null` counts as left out."""

    model_config = ConfigDict(json_schema_extra=_complete_schema)

    prompt: Annotated[Any, WithJsonSchema({"anyOf": _FORMS})] = Field(
        description="A text, a list of texts, the ids of a text, or a list of such lists.",
    )
    mode: str | None = Field(
        default=None,
        description=f"By default the first mode of the model for text, and `raw` for ids. {MODES}",
    )
    best_of: int | None = Field(
        default=None,
        ge=1,
        le=MAX_SAMPLES,
        description="Not supported: leave it out, or send the same as `n`.",
    )
    max_completion_tokens: int | None = Field(
        default=None, ge=0, description="Another name of `max_tokens`."
    )
    add_special_tokens: bool = Field(
        default=True,
        description="With false, the server must not add the ids that ask for a copy, which needs "
        "`raw` mode. True changes nothing.",
    )
    stream_options: StreamOptions | None = Field(
        default=None, description="Changes nothing without `stream`."
    )
    user: str | None = Field(
        default=None,
        max_length=256,
        description="On whose behalf you ask; the server's log shows it.",
    )
    _sources: list[Source] = PrivateAttr(default_factory=list)

    def sources(self) -> list[Source]:
        """The prompts, numbered as in the request."""
        if not self._sources:
            self._sources = read_prompts(self.prompt, self.mode)
        return self._sources

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        body = {name: value for name, value in body.items() if value is not None}
        most = body.get("max_completion_tokens")
        if type(most) is int and most >= 0:  # what is wrong is refused by the name that it has
            body.setdefault("max_tokens", most)
        return body

    @model_validator(mode="after")
    def _check_choices(self) -> Self:
        n_prompts = len(self.sources())
        if n_prompts * self.n > MAX_CHOICES:
            raise refusal(
                "n", f"{n_prompts} prompts of {self.n} samples are more than {MAX_CHOICES} choices"
            )
        if n_prompts > 1 and self.session_id is not None:
            raise refusal("prompt", "must be a single one with 'session_id'")
        if self.best_of not in (None, self.n):
            raise refusal("best_of", "is not supported; leave it out")
        return self

    @model_validator(mode="after")
    def _check_wishes(self) -> Self:
        if self.max_completion_tokens not in (None, self.max_tokens):
            raise refusal("max_completion_tokens", "must be what 'max_tokens' is; leave one out")
        if not self.add_special_tokens and any(one.mode != RAW for one in self.sources()):
            raise refusal("add_special_tokens", "false needs 'mode' to be 'raw'")
        if self.stream_options is not None and self.stream_options.include_obfuscation:
            raise refusal("stream_options.include_obfuscation", "is not supported; leave it out")
        return self


class CompletionLogprobs(BaseModel):
    """How likely each token was, in lists of the same length."""

    tokens: list[str] = Field(
        description="A byte that is not a character by itself is `bytes:\\xNN`; special ids are "
        "`<bos>`, `<sep>` and `<eos>`. The token that ended the text is the last one."
    )
    token_logprobs: list[float | None] = Field(
        description="Natural logarithms, of the model's own distribution; null for the first id "
        "of a context."
    )
    top_logprobs: list[dict[str, float] | None] = Field(
        description="The logarithms for the likeliest tokens, and for the token itself."
    )
    text_offset: list[int] = Field(
        description="Where in `text` each token begins, in characters; the end of `text` for one "
        "that is not in it."
    )


class CompletionChoice(BaseModel):
    """One text."""

    index: int = Field(
        description="The number of its prompt, times `n`, plus the number of its sample, all "
        "counted from 0."
    )
    text: str
    token_ids: list[int] = Field(
        description="Without the special id by which the model ended the text."
    )
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None = Field(
        description=f"{REASONS} Null in a stream until the last chunk of a choice, which alone has "
        "`match` and `verified`."
    )
    match: Match
    verified: Verified


class PromptTokensDetails(BaseModel):
    """How much of the prompt did not have to be computed."""

    cached_tokens: int = Field(description="Tokens whose memory was kept from an earlier request.")


class CompletionUsage(BaseModel):
    """Tokens of all prompts and choices."""

    prompt_tokens: int = Field(description="Special ones included.")
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class Completion(BaseModel):
    """A whole answer, or a chunk of one."""

    id: str
    object: Literal["text_completion"]
    created: int = Field(description="Seconds since 1970.")
    model: str
    choices: list[CompletionChoice]
    usage: CompletionUsage | None = Field(
        default=None, description="In chunks, as `stream_options` ask for it."
    )
    session: TurnInfo | None = Field(default=None, description="With `session_id`, at the end.")
