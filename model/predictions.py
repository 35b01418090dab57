"""What a decoder says of the tokens that come next."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Predictions:
    """What a step leads to, after those of its tokens that it was asked for.

    Attributes:
        logits: `[M, V]` float32, on the CPU.
        likeliest: `[M]` int64, of each row of the logits the argmax, ties going to the lowest id;
            -1 if not all of the row is finite.
    """

    logits: Tensor
    likeliest: NDArray[np.int64]

    @classmethod
    def of(cls, logits: Tensor) -> "Predictions":
        """Predictions with these logits."""
        return cls(logits, logits.argmax(-1).where(logits.isfinite().all(-1), -1).numpy())
