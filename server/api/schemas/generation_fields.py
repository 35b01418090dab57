"""What every way to ask for a generation has in common, on the wire."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)
from pydantic_core import PydanticCustomError

from model.sampling import SamplingParams
from server.api.schemas.model_name import ModelName
from server.engine.generation import GenerationParams
from server.engine.modes import RAW

MAX_STOP_STRINGS = 4
MAX_STOP_LENGTH = 256
MAX_SAMPLES = 32
MAX_LOGPROBS = 20
MAX_PRIORITY = 10
SESSION_ID = "ses-[0-9a-f]{32}"

MODES = (
    "What a model knows depends on what it was trained on. `copy`: write the prompt out. `recall`: "
    "the prompt is how a passage begins that the session read; go on from there to the passage's "
    "end. Every model knows `raw`: add no special ids to the prompt; in a session it may be empty."
)


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


@dataclass(frozen=True)
class Source:
    """One prompt of a request.

    Attributes:
        field: where the client wrote it.
        prompt: text, or ids.
        mode: what it asks for; None for the first mode of the model's task.
    """

    field: str
    prompt: str | list[int]
    mode: str | None


class GenerationFields(SamplingParams):
    """How to generate: the fields of `SamplingParams`, and these.

    What to generate from, and in which mode, is for subclasses to say.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    model: ModelName = None
    session_id: str | None = Field(
        default=None,
        description="Go on from this session, and add the prompt and what is generated to it.",
    )
    wait_for_session: bool = Field(
        default=False,
        description="Wait while another request is in the session, as long as `timeout` allows. "
        "By default that is refused with 409. Needs `session_id`.",
    )
    max_tokens: int | None = Field(
        default=None,
        ge=0,
        description="Tokens to generate at most, by default as far as there is room: for a copy "
        "one more than the prompt has, for a recall one more than the session has, else 16. 0, to "
        "read the prompt only, needs `session_id` or `echo`.",
    )
    min_tokens: int = Field(
        default=0,
        ge=0,
        description="Before so many tokens are generated, neither the id that ends a string nor a "
        "stop string ends the generation.",
    )
    n: int = Field(
        default=1,
        ge=1,
        le=MAX_SAMPLES,
        description="Samples; they share the memory of the prompt. With `seed`, each draws in its "
        "own repeatable way. A session takes one.",
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
        "likeliest in its place: those of the model itself, before penalties and temperature.",
    )
    echo: bool = Field(
        default=False,
        description="Begin the answer with the prompt; with `logprobs`, with those of its ids too. "
        "In `raw` mode these are all ids, special ones included. A session takes no `logprobs` "
        "beside it.",
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

    def sources(self) -> list[Source]:
        """The prompts, at least one."""
        raise NotImplementedError

    def sampling(self) -> SamplingParams:
        """How tokens are to be chosen: those of the fields that say so, checked already."""
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
    """Why a field cannot be served, though its value looks as it should."""
    return PydanticCustomError("refused", "{param}: {reason}", {"param": param, "reason": reason})
