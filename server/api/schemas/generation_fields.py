"""The fields that all requests for a generation have."""

import re
from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)
from pydantic_core import PydanticCustomError

from causalrn.model.sampling import SamplingParams
from causalrn.server.api.schemas.model_name import ModelName
from causalrn.server.engine.generation import GenerationParams
from causalrn.server.engine.modes import RAW

MAX_STOP_STRINGS = 4
MAX_STOP_LENGTH = 256
MAX_SAMPLES = 32
MAX_LOGPROBS = 20
MAX_PRIORITY = 10
SESSION_ID = "ses-[0-9a-f]{32}"

MODES = (
    "Which modes a model has depends on what it was trained for. `copy`: repeat "
    "the prompt. `recall`: the prompt is the beginning of a passage that the session has "
    "read; go on to the end of that passage. `raw`, which every model has: go on from the "
    "prompt as it is, without special ids added; with `session_id` it may be empty."
)


def _as_list(value: Any) -> Any:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return value
    raise PydanticCustomError("stop_type", "must be a string or a list of strings")


def _not_empty(strings: list[str]) -> list[str]:
    return [string for string in strings if string]


_StopString = Annotated[str, Field(max_length=MAX_STOP_LENGTH)]
_Stop = Annotated[
    list[_StopString],
    Field(max_length=MAX_STOP_STRINGS),
    AfterValidator(_not_empty),
    BeforeValidator(
        _as_list,
        json_schema_input_type=_StopString
        | Annotated[list[_StopString], Field(max_length=MAX_STOP_STRINGS)],
    ),
]


@dataclass(frozen=True)
class Source:
    """One prompt of a request.

    Attributes:
        field: where in the request the client wrote it.
        prompt: text, or ids.
        mode: what it asks for; None for the first mode of the model's task.
    """

    field: str
    prompt: str | list[int]
    mode: str | None


class GenerationFields(SamplingParams):
    """How to generate: the fields of `SamplingParams`, and these.

    Subclasses have the fields for what to generate from, and in which mode.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    model: ModelName = None
    session_id: str | None = Field(
        default=None,
        description="Go on from this session, and add the prompt and the answer to its log.",
    )
    wait_for_session: bool = Field(
        default=False,
        description="If another request is using the session, wait for it, as long as `timeout` "
        "allows. By default the request is refused with 409. Needs `session_id`.",
    )
    max_tokens: int | None = Field(
        default=None,
        ge=0,
        description="The most tokens to generate. By default, one more than the prompt has for a "
        "copy, which is refused if there is no room for all of it; up to 256 for a recall, and "
        "otherwise 16, if there is room. With 0 the prompt is only read, which needs `session_id` "
        "or `echo`.",
    )
    min_tokens: int = Field(
        default=0,
        ge=0,
        description="Until so many tokens are generated, neither the model nor a stop string can "
        "end the generation.",
    )
    allow_partial: bool = Field(
        default=False,
        description="Answer a recall with the nearest that there is, even if the model has not "
        "found the prompt. By default such an answer is empty, its `finish_reason` is "
        "`not_found`, and the session is as if nobody had asked. Changes nothing in other modes.",
    )
    speculate: bool = Field(
        default=True,
        description="Let the server guess the next tokens from those before, and verify several in "
        "one step. This changes no token and no log-probability, only the time that they take.",
    )
    n: int = Field(
        default=1,
        ge=1,
        le=MAX_SAMPLES,
        description="How many samples to generate; they share the memory of the prompt. With "
        "`seed`, each is random in its own, repeatable way. Must be 1 with `session_id`.",
    )
    stop: _Stop | None = Field(
        default=None,
        description=f"Up to {MAX_STOP_STRINGS} strings that end the generation. They are not part "
        "of `text`; `token_ids` ends with the id that completed the string. An empty one ends "
        "nothing.",
    )
    ignore_eos: bool = Field(
        default=False,
        description="Go on after the special id by which the model ends a text, as if it were any "
        "other id; `token_ids` then include it.",
    )
    logprobs: int | None = Field(
        default=None,
        ge=0,
        le=MAX_LOGPROBS,
        description="Send the log-probability of every id of the answer, and of this many of the "
        "ids that were likeliest in its place. They are the model's own, before penalties and "
        "temperature.",
    )
    echo: bool = Field(
        default=False,
        description="Begin the answer with the prompt; with `logprobs`, also send the "
        "log-probabilities of its ids. In `raw` mode this includes special ids. Cannot be combined "
        "with both `logprobs` and `session_id`.",
    )
    priority: int = Field(
        default=0,
        ge=-MAX_PRIORITY,
        le=MAX_PRIORITY,
        description="Requests with a lower number are served first. Each step counts as much as "
        "ten seconds of waiting, so no request waits for ever.",
    )
    timeout: float | None = Field(
        default=None,
        gt=0,
        le=86_400,
        allow_inf_nan=False,
        description="Seconds after which the request ends with an error.",
    )
    stream: bool = Field(
        default=False, description="Send tokens as they come, as server-sent events."
    )

    @abstractmethod
    def sources(self) -> list[Source]:
        """The prompts, at least one."""

    def sampling(self) -> SamplingParams:
        """How tokens are to be chosen, from the fields for that, which are checked already."""
        values = {name: getattr(self, name) for name in SamplingParams.model_fields}
        return SamplingParams.model_construct(**values)

    def params(self, source: Source) -> GenerationParams:
        """What the engine is asked for one of the prompts."""
        return GenerationParams(
            max_tokens=self.max_tokens,
            sampling=self.sampling(),
            stop=self.stop or (),
            n=self.n,
            logprobs=self.logprobs,
            echo=self.echo,
            ignore_eos=self.ignore_eos,
            min_tokens=self.min_tokens,
            priority=self.priority,
            timeout=self.timeout,
            mode=source.mode,
            allow_partial=self.allow_partial,
            speculate=self.speculate,
            field=source.field,
        )

    @model_validator(mode="after")
    def _check_sources(self) -> Self:
        in_session = self.session_id is not None
        for source in self.sources():
            if not (source.prompt or (in_session and source.mode == RAW)):
                raise refusal(source.field, "must not be empty")
        if self.max_tokens == 0 and not (self.echo or in_session):
            raise refusal("max_tokens", "must be at least 1 without 'echo' or 'session_id'")
        return self

    @model_validator(mode="after")
    def _check_session(self) -> Self:
        if self.session_id is None:
            if self.wait_for_session:
                raise refusal("wait_for_session", "needs a 'session_id'")
            return self
        if not re.fullmatch(SESSION_ID, self.session_id):
            raise refusal("session_id", "must be 'ses-' and 32 hexadecimal digits")
        if self.n > 1:
            raise refusal("n", "must be 1 with 'session_id'")
        if self.echo and self.logprobs is not None:
            raise refusal("echo", "cannot be combined with 'logprobs' and 'session_id'")
        return self


def refusal(param: str, reason: str) -> PydanticCustomError:
    """The error of a field whose value has the right form, but cannot be served."""
    return PydanticCustomError("refused", "{param}: {reason}", {"param": param, "reason": reason})
