"""The keywords of a generation; what they mean is told in `Client.generate`."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

Mode = Literal["copy", "recall", "raw"]
"""What a prompt is: a text to copy, the beginning of one to recall, or tokens as they are."""


class SharedOptions(TypedDict, total=False):
    """Those that make sense for many prompts at once, as for one."""

    max_tokens: int | None
    min_tokens: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    seed: int | None
    stop: str | Sequence[str] | None
    ignore_eos: bool | None
    logit_bias: Mapping[int, float] | None
    presence_penalty: float | None
    frequency_penalty: float | None
    repetition_penalty: float | None
    logprobs: int | None
    echo: bool | None
    priority: int | None
    deadline: float | None


class TurnOptions(SharedOptions, total=False):
    """Those that a session leaves open."""

    token_ids: Sequence[int] | None
    request_id: str | None


class BatchOptions(SharedOptions, total=False):
    """Those that are the same for all prompts of a batch."""

    model: str | None
    n: int | None
    mode: Mode | None


class GenerateOptions(TurnOptions, total=False):
    """All of them."""

    model: str | None
    n: int | None
    mode: Mode | None
    session_id: str | None
    wait_for_session: bool | None
