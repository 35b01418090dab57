"""What a pairwise relation does to its pairs: the choices that the paper's ablations vary."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Normalization = Literal["pair", "separate", "none"]
Activation = Literal["exp", "elu", "relu", "gelu", "poly_relu", "poly_norm"]
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)

POLY_NORM_EPS = 1e-6
"""Added to mean squares by PolyNorm."""

NOTHING, CENTRED, PLAIN = range(3)


@dataclass(frozen=True)
class Form:
    """A form of pairwise relations.

    Attributes:
        normalization: of what before the activation: of each pair (the paper's relation), of
            readers and memories each by itself, or of nothing.
        centred: whether a pair is normalized around its mean.
        power: of the deviation that a pair is divided by, the `power`-th root of the mean of such
            powers; with 2, the standard deviation.
        activation: what is then added up: φ.
    """

    normalization: Normalization = "pair"
    centred: bool = True
    power: int = 2
    activation: Activation = "exp"

    @property
    def is_centred(self) -> bool:
        """Whether means of pairs count for nothing."""
        return self.normalization == "pair" and self.centred

    @property
    def codes(self) -> NDArray[np.int64]:
        """The same for compiled code, `[4]`; see `cpu.py`."""
        taken = NOTHING if self.normalization != "pair" else CENTRED if self.centred else PLAIN
        kind = ACTIVATIONS.index(self.activation)
        return np.array([taken, self.power, kind, self.normalization == "separate"], np.int64)
