"""From logits to a token: greedy, or a seeded draw from a truncated distribution."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SamplingParams:
    """How tokens are chosen.

    Attributes:
        temperature: 0 takes the likeliest token; above 0, logits are divided by it.
        top_k: draw from the k likeliest tokens; 0 for all.
        top_p: draw from the fewest likeliest of those tokens whose probabilities, after `top_k`
            and `temperature`, reach this sum.
        seed: of the sequence's own generator; None for fresh entropy.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        """Raise `ValueError` for values outside their ranges."""
        if not 0.0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature must be finite and at least 0, got {self.temperature}")
        if self.top_k < 0:
            raise ValueError(f"top_k must be at least 0, got {self.top_k}")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if self.seed is not None and self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")


class Sampler:
    """Chooses the tokens of one sequence. With a seed, depends on the seed and logits alone."""

    def __init__(self, params: SamplingParams) -> None:
        self.params = params
        self._rng = np.random.default_rng(params.seed) if params.temperature > 0 else None

    def sample(self, logits: NDArray[np.float32]) -> int:
        """Choose a token from finite logits `[V]`; ties go to the lowest id."""
        if self._rng is None:
            return int(logits.argmax())
        params = self.params
        # float64, and the maximum removed first: no temperature makes it overflow.
        with np.errstate(over="ignore"):  # at tiny temperatures all but the likeliest go to -inf
            scaled = (logits.astype(np.float64) - float(logits.max())) / params.temperature
        order = np.argsort(-scaled, kind="stable")
        if params.top_k:
            order = order[: params.top_k]
        weights = np.exp(scaled[order])
        cumulative = np.cumsum(weights)
        if params.top_p < 1.0:
            kept = int(np.searchsorted(cumulative, params.top_p * cumulative[-1])) + 1
            order, cumulative = order[:kept], cumulative[:kept]
        drawn = self._rng.random() * cumulative[-1]
        place = int(np.searchsorted(cumulative, drawn, side="right"))
        # A draw may round up to the total: then the last token that has a weight.
        last = int(np.searchsorted(cumulative, cumulative[-1]))
        return int(order[min(place, last)])
