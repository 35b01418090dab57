"""What a decoder says of the tokens that come next."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Found = tuple[NDArray[np.int64], NDArray[np.int64] | None]
"""`likeliest` and `chosen` of predictions."""


@dataclass(frozen=True)
class Predictions:
    """What a step leads to, after those of its tokens that it was asked for.

    Attributes:
        computed: `[M, V]` float32, the logits, on the device that computed them.
        bring: gives `likeliest` and `chosen`. If the step is still under way, it waits for it, and
            raises what makes it fail.
        is_lent: whether the decoder's next step writes over `computed`.
    """

    computed: Tensor
    bring: Callable[[], Found]
    is_lent: bool = False

    @property
    def likeliest(self) -> NDArray[np.int64]:
        """`[M]`, of each row of the logits the argmax, ties going to the lowest id.

        It is -1 if not all of the row is finite.
        """
        return self._found[0]

    @property
    def chosen(self) -> NDArray[np.int64] | None:
        """`[D]`, what the draws that were asked for chose; -1 if not all of their row is finite.

        None if the backend leaves draws to others.
        """
        return self._found[1]

    @cached_property
    def logits(self) -> Tensor:
        """The logits on the CPU; to be asked for before the decoder's next step."""
        return self.computed.to("cpu", copy=self.is_lent)

    @cached_property
    def _found(self) -> Found:
        return self.bring()

    @classmethod
    def of(cls, logits: Tensor) -> "Predictions":
        """Predictions with these logits, which are on the CPU."""
        likeliest = logits.argmax(-1).where(logits.isfinite().all(-1), -1).numpy()
        return cls(logits, lambda: (likeliest, None))
