"""From logits to a token: greedy, or a seeded draw from a truncated distribution."""

import math
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
        min_p: draw only from tokens at least this share as likely as the likeliest, after
            `temperature`; 0 for all.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None
    min_p: float = 0.0

    def __post_init__(self) -> None:
        """Raise `ValueError` for values outside their ranges."""
        if not 0.0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature must be finite and at least 0, got {self.temperature}")
        if self.top_k < 0:
            raise ValueError(f"top_k must be at least 0, got {self.top_k}")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if not 0.0 <= self.min_p <= 1.0:
            raise ValueError(f"min_p must be between 0 and 1, got {self.min_p}")
        if self.seed is not None and self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")


class Sampler:
    """Chooses the tokens of one sequence. With a seed, depends on the seed and logits alone.

    Args:
        params: how tokens are chosen.
        index: of several samples of one prompt; each draws from a generator of its own.
    """

    def __init__(self, params: SamplingParams, index: int = 0) -> None:
        self.params = params
        self._rng = None
        if params.temperature > 0:
            seed = params.seed
            self._rng = np.random.default_rng([seed, index] if seed is not None and index else seed)

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is taken, ties going to the lowest id."""
        return self._rng is None

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
        if params.min_p:
            kept = int(np.searchsorted(-weights, -params.min_p, side="right"))
            order, weights = order[:kept], weights[:kept]
        cumulative = np.cumsum(weights)
        if params.top_p < 1.0:
            kept = int(np.searchsorted(cumulative, params.top_p * cumulative[-1])) + 1
            order, cumulative = order[:kept], cumulative[:kept]
        drawn = self._rng.random() * cumulative[-1]
        place = int(np.searchsorted(cumulative, drawn, side="right"))
        # A draw may round up to the total: then the last token that has a weight.
        last = int(np.searchsorted(cumulative, cumulative[-1]))
        return int(order[min(place, last)])


@dataclass(frozen=True)
class TokenLogprob:
    """How likely a token was, and which were likelier.

    Attributes:
        token_id: the token.
        logprob: natural logarithm of its probability under the model, at temperature 1 and before
            anything is cut off.
        top: the likeliest tokens with theirs, likeliest first, ties in the order of ids.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...]


def token_logprob(logits: NDArray[np.float32], token_id: int, n_top: int) -> TokenLogprob:
    """The log-probability of a token and of the `n_top` likeliest, from finite logits `[V]`.

    In float64, added up exactly: the same logits give the same bits.
    """
    shifted = logits.astype(np.float64) - float(logits.max())
    total = math.log(math.fsum(map(math.exp, shifted.tolist())))
    order = np.argsort(-shifted, kind="stable")[:n_top].tolist() if n_top else []
    return TokenLogprob(
        token_id,
        float(shifted[token_id]) - total,
        tuple((top, float(shifted[top]) - total) for top in order),
    )
