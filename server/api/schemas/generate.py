"""The JSON of `POST /generate`."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from causalrn.server.api.schemas.generation_fields import (
    MODES,
    GenerationFields,
    Source,
)
from causalrn.server.engine.deltas import FinishReason

Match = Annotated[
    float | None,
    Field(
        default=None,
        ge=0,
        le=1,
        description="How well the model found what it looked for, by its own numbers: the least "
        "over all tokens of the answer. Null if the model cannot tell.",
    ),
]
Verified = Annotated[
    bool | None,
    Field(
        default=None,
        description="What the server found when it compared the answer with the prompt, or with "
        "the session's log. True: a copy is the whole prompt; a recall is what follows the prompt "
        "in the latest passage that has it, to the end of that passage, or as far as the recall "
        "goes. False: it is not. Null: there is nothing to compare, as in `raw` mode, or a copy "
        "that is right so far was cut off.",
    ),
]
REASONS = (
    "`stop`: the model ended, or a stop string came. `length`: `max_tokens` were generated. "
    "`not_found`: the model did not find what the prompt asks for, and there is no answer."
)

_GENERATION: dict[str, Any] = {
    "id": "gen-4f0c9d3e7a5b4d21b3f4a1c2d3e4f5a6",
    "model": "copy-bytes",
    "text": "hello",
    "token_ids": [104, 101, 108, 108, 111],
    "finish_reason": "stop",
    "match": None,
    "verified": True,
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
        description="Token ids, in place of `prompt`. The server adds the special ids that the "
        "model needs around them. In `raw` mode it adds none, and these may include special "
        "ids.",
    )
    mode: str | None = Field(
        default=None, description=f"By default the first mode of the model. {MODES}"
    )

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
    """The session that a request was a turn of."""

    id: str
    n_tokens: int = Field(description="How many tokens its log has after this turn.")


class Usage(BaseModel):
    """Tokens read and generated."""

    prompt_tokens: int = Field(description="Tokens that the model read, special ones included.")
    completion_tokens: int = Field(description="Tokens generated, in all samples.")
    total_tokens: int = Field(description="The sum of both.")
    cached_tokens: int = Field(
        description="Tokens of the prompt whose memory was kept from an earlier request."
    )


class TopLogprob(BaseModel):
    """One of the ids that were likeliest in a place."""

    token_id: int
    logprob: float


class TokenLogprob(BaseModel):
    """How likely an id was, by the model's own distribution, as natural logarithms."""

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
    match: Match
    verified: Verified
    logprobs: list[TokenLogprob] | None = Field(default=None, description="If asked for.")


class GenerateResponse(BaseModel):
    """A whole generation."""

    model_config = ConfigDict(json_schema_extra={"examples": [_GENERATION]})

    id: str = Field(description="Names this generation, here and in the server's log.")
    model: str
    text: str = Field(
        description="What was generated, up to the first stop string. A character that "
        "`max_tokens` cut off is not in it; an answer that goes on from there begins with it."
    )
    token_ids: list[int] = Field(
        description="Every id that was generated, up to the one that completed a stop string, but "
        "without the special id by which the model ends a text."
    )
    finish_reason: FinishReason = Field(description=REASONS)
    match: Match
    verified: Verified
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
    index: int = Field(description="Which sample this is a piece of, counted from 0.")
    text: str = Field(
        description="New text. It has only whole characters, so it may lag behind the ids, also "
        "at the end."
    )
    token_ids: list[int]
    finish_reason: FinishReason | None = Field(
        description="Null in every chunk of a sample but its last, which alone has `match` and "
        "`verified`."
    )
    match: Match
    verified: Verified
    logprobs: list[TokenLogprob] | None = Field(default=None, description="If asked for.")
    usage: Usage | None = Field(default=None, description="In the very last chunk only.")
    session: TurnInfo | None = Field(
        default=None, description="In the very last chunk, with `session_id`."
    )
