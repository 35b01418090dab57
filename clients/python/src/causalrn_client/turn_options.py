"""The keywords of a turn in a session."""

from collections.abc import Sequence
from typing import Literal, TypedDict

Mode = Literal["copy", "recall", "raw"]
"""What a prompt is: a text to copy, the beginning of one to recall, or tokens as they are."""


class TurnOptions(TypedDict, total=False):
    """Those of `Client.generate` that a session leaves open; what they mean is told there."""

    token_ids: Sequence[int] | None
    max_tokens: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    seed: int | None
    stop: str | Sequence[str] | None
    ignore_eos: bool | None
    logprobs: int | None
    echo: bool | None
    priority: int | None
    deadline: float | None
    request_id: str | None
