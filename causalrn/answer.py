"""What models answer."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FinishReason = Literal["stop", "length", "not_found"]


@dataclass(frozen=True)
class Answer:
    """An answer; `str()` gives its text.

    Attributes:
        text: that the model wrote.
        token_ids: of the text; without the EOS that may have ended it.
        finish_reason: "stop" if the model or a stop string ended it, "length" if it was cut off,
            "not_found" if the model did not find what the prompt asks for.
        match: how well the model found that, from 0 to 1; None if it cannot tell.
        verified: whether the answer is right, by what was read and not by the model; None if
            nobody can tell.
    """

    text: str
    token_ids: list[int]
    finish_reason: FinishReason
    match: float | None
    verified: bool | None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Score:
    """How likely a text is to a model.

    Attributes:
        token_ids: `[T]`, of the text.
        logprobs: `[T]` float64, natural logarithms of the probability of each token after those
            before it.
        bits_per_byte: of its UTF-8.
    """

    token_ids: list[int]
    logprobs: NDArray[np.float64]
    bits_per_byte: float
