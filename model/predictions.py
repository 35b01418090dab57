"""What a decoder says of the tokens that come next."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Predictions:
    """What a step leads to, after those of its tokens that it was asked for.

    Attributes:
        computed: `[M, V]` float32, the logits, on the device that computed them.
        likeliest: `[M]` int64, of each row of the logits the argmax, ties going to the lowest id;
            -1 if not all of the row is finite.
        chosen: `[D]` int64, what the draws that were asked for chose; -1 if not all of their row is
            finite. None if the backend leaves draws to others.
        is_lent: whether the decoder's next step writes over `computed`.
    """

    computed: Tensor
    likeliest: NDArray[np.int64]
    chosen: NDArray[np.int64] | None = None
    is_lent: bool = False

    @cached_property
    def logits(self) -> Tensor:
        """The logits on the CPU; to be asked for before the decoder's next step."""
        return self.computed.to("cpu", copy=self.is_lent)

    @classmethod
    def of(cls, logits: Tensor) -> "Predictions":
        """Predictions with these logits, which are on the CPU."""
        return cls(logits, logits.argmax(-1).where(logits.isfinite().all(-1), -1).numpy())
