"""The margin of a match, as `model/ops/relation/keyed.md` derives it.

Everything is in logarithms, since weights and pools of a sharp layer are beyond any float.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Layer:
    """A keyed relation: keys are codes of ±1, a value is one spike, and readers see keys alone.

    Attributes:
        d_key, d_value: channels.
        spike: height s of a value.
        temperature: τ.
        recency: λ, the power of a memory's age that its weight is divided by.
        eps: ε, added to the deviation of each pair.
        tolerates: whether what keys add up to is left out of means.
    """

    d_key: int
    d_value: int
    spike: float
    temperature: float
    recency: float = 0.0
    eps: float = 1e-6
    tolerates: bool = False

    def log_weights(self, residuals: Floats) -> Floats:
        """Logarithms of the weights of pairs, from what their keys leave, ρ²; of the same shape."""
        k = self.d_key + self.d_value
        root = math.sqrt(k - 1)
        spreads = np.sqrt(1 + k / (k - 1) * residuals / self.spike**2)
        exponents = self.temperature * root / (spreads + self.eps * k / (self.spike * root))
        logs: Floats = exponents + np.log(-np.expm1(-exponents * k / (k - 1)))
        return logs

    def log_weight(self, residual: float) -> float:
        """The same for one pair."""
        return float(self.log_weights(np.array(residual)))


def margin_of_copy(layer: Layer, log_pool: float, n_readers: int = 1) -> float:
    """Margin of a full match among the codes of other places, which all hold one other value.

    Args:
        layer: whose keys are `d_key / 2` random bits as ±1, and the same with the other sign.
        log_pool: natural logarithm of the number of other memories.
        n_readers: how many readers the worst is taken of.
    """
    n_bits = layer.d_key // 2
    differing = range(1, n_bits + 1)  # no two places have the same code
    logs = [math.log(math.comb(n_bits, x)) for x in differing]
    chances: Floats = np.array(logs) - n_bits * math.log(2)
    up_to = np.logaddexp.accumulate(chances)
    log_codes = log_pool + math.log(n_readers)
    nearest = min(int(np.searchsorted(up_to, -log_codes)), n_bits - 1)
    counts: Floats = log_pool + chances[nearest:]
    counts[0] = max(0.0, log_pool + up_to[nearest])
    residuals = 8.0 * np.arange(nearest + 1.0, n_bits + 1)
    others = np.logaddexp.reduce(counts + layer.log_weights(residuals))
    return layer.log_weight(0.0) - float(others)


def log_largest_pool(layer: Layer) -> float:
    """Natural logarithm of the largest pool of places that a match stands out of.

    It is at most that of the number of codes.
    """
    low, high = 0.0, layer.d_key // 2 * math.log(2)
    if margin_of_copy(layer, high) > 0:
        return high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if margin_of_copy(layer, middle) > 0 else (low, middle)
    return low


def margin_of_recall(layer: Layer, decay: float, shared: int, pool: int, residual: float) -> float:
    """Margin of a full match, the oldest memory, among others that all look like one wrong place.

    Args:
        layer: whose keys are sums over the words of the last tokens.
        decay: what a token counts in them, against the one after it.
        shared: the last tokens, which the wrong place has too; the one before them differs.
        pool: other memories.
        residual: what the word of the differing token leaves of that of the right one, ρ².
    """
    wrong = layer.log_weight(residual * decay ** (2 * shared))
    ages = np.log(np.arange(1, pool + 2))
    others = np.logaddexp.reduce(-layer.recency * ages[:-1])
    return layer.log_weight(0.0) - layer.recency * float(ages[-1]) - wrong - float(others)
