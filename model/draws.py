"""What a backend needs to choose a token, where it does so itself."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LARGEST = 1e300
"""Of logits, so that no difference or sum of them is infinite."""


@dataclass(frozen=True)
class Changes:
    """What is done to the logits of some ids before a token is chosen, in float64 and this order.

    Attributes:
        ids: `[E]` int64, all different.
        factors: `[E]` float64; a logit above 0 is divided by its factor, any other multiplied, and
            what comes of it is cut off at `LARGEST`.
        taken: `[E]` float64, subtracted.
        added: `[E]` float64; -inf for an id that must not be chosen.
    """

    ids: NDArray[np.int64]
    factors: NDArray[np.float64]
    taken: NDArray[np.float64]
    added: NDArray[np.float64]

    def apply(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Changed float64 logits `[V]`."""
        changed = logits.astype(np.float64)
        theirs = changed[self.ids]
        with np.errstate(over="ignore"):  # a tiny factor makes infinities, which are cut off
            theirs = np.where(theirs > 0, theirs / self.factors, theirs * self.factors)
        changed[self.ids] = theirs.clip(-LARGEST, LARGEST) - self.taken + self.added
        return changed


@dataclass(frozen=True)
class Draw:
    """How one token is chosen; see `causalrn.model.sampling.SamplingParams`.

    Attributes:
        temperature, top_k, top_p, min_p: as they were asked for.
        key: less than 2^64, of the generator that a sample draws from.
        number: of the draw in the sample, from 0. The same key and number draw the same.
        changes: of the logits; None for none.
    """

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    key: int
    number: int
    changes: Changes | None


class RowDraw(NamedTuple):
    """A draw, and what it is made from.

    Attributes:
        row: of the logits that a step was asked for; several draws may be made from one.
        draw: how.
    """

    row: int
    draw: Draw
