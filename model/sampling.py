"""From logits to a token: greedy, or a seeded draw from a truncated distribution."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SamplingParams:
    """How tokens are chosen.

    Before all else, the logits of a step are changed, in this order: `repetition_penalty`, then
    `presence_penalty` and `frequency_penalty`, then `logit_bias`.

    Attributes:
        temperature: 0 takes the likeliest token; above 0, logits are divided by it.
        top_k: draw from the k likeliest tokens; 0 for all.
        top_p: draw from the fewest likeliest of those tokens whose probabilities, after `top_k`
            and `temperature`, reach this sum.
        seed: of the sequence's own generator; None for fresh entropy.
        min_p: draw only from tokens at least this share as likely as the likeliest, after
            `temperature`; 0 for all.
        logit_bias: what is added to the logits of some ids.
        presence_penalty: taken from the logit of every id that was generated.
        frequency_penalty: taken from it once more for every time that it was generated.
        repetition_penalty: divides the logit of every id that was read or generated if it is above
            0, and multiplies it if it is not; 1 for none.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None
    min_p: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0

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
        for name in ("presence_penalty", "frequency_penalty"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be finite, got {getattr(self, name)}")
        if not 0.0 < self.repetition_penalty < float("inf"):
            raise ValueError(
                f"repetition_penalty must be finite and above 0, got {self.repetition_penalty}"
            )
        for token_id, bias in self.logit_bias.items():
            if token_id < 0 or not math.isfinite(bias):
                raise ValueError(
                    f"logit_bias must map ids to finite numbers, got {token_id}: {bias}"
                )

    @property
    def changes_logits(self) -> bool:
        """Whether a token is chosen by anything but the model's own logits."""
        return (
            bool(self.logit_bias)
            or self.presence_penalty != 0
            or self.frequency_penalty != 0
            or self.repetition_penalty != 1
        )


_LARGEST = 1e300  # of logits, so that no difference or sum of them is infinite


class Sampler:
    """Chooses the tokens of one sequence.

    With a seed, depends on the seed, the logits and the sequence's own tokens alone.

    Args:
        params: how tokens are chosen.
        index: of several samples of one prompt; each draws from a generator of its own.
        prompt: ids that the sequence begins with, for `repetition_penalty`.
    """

    def __init__(self, params: SamplingParams, index: int = 0, prompt: Sequence[int] = ()) -> None:
        self.params = params
        self._changes = params.changes_logits
        self._known = set(prompt) if params.repetition_penalty != 1 else set()
        self._counts: Counter[int] = Counter()
        self._rng = None
        if params.temperature > 0:
            seed = params.seed
            self._rng = np.random.default_rng([seed, index] if seed is not None and index else seed)

    @property
    def is_greedy(self) -> bool:
        """Whether the model's own likeliest token is taken, ties going to the lowest id."""
        return self._rng is None and not self._changes

    def sample(self, logits: NDArray[np.float32], banned: int | None = None) -> int:
        """Choose a token from finite logits `[V]`; ties go to the lowest id.

        Args:
            logits: of the model.
            banned: an id that is not to be chosen, whatever its logit.
        """
        if not self._changes:
            if banned is None:
                return self._choose(logits)
            return self._choose(_without(logits.astype(np.float64), banned))
        changed = self._changed(logits)
        token_id = self._choose(changed if banned is None else _without(changed, banned))
        self._known.add(token_id)
        self._counts[token_id] += 1
        return token_id

    def _changed(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Float64 logits `[V]` with penalties and bias."""
        params = self.params
        changed = logits.astype(np.float64)
        if params.repetition_penalty != 1:
            known = np.fromiter(self._known, np.int64, len(self._known))
            theirs = changed[known]
            penalty = params.repetition_penalty
            with np.errstate(over="ignore"):  # a tiny penalty makes infinities, which are cut off
                theirs = np.where(theirs > 0, theirs / penalty, theirs * penalty)
            changed[known] = theirs.clip(-_LARGEST, _LARGEST)
        if params.presence_penalty or params.frequency_penalty:
            for token_id, count in self._counts.items():
                changed[token_id] -= params.presence_penalty + params.frequency_penalty * count
        for token_id, bias in params.logit_bias.items():
            changed[token_id] += bias
        return changed

    def _choose(self, logits: NDArray[np.float32] | NDArray[np.float64]) -> int:
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


def _without(logits: NDArray[np.float64], banned: int) -> NDArray[np.float64]:
    logits[banned] = -np.inf
    return logits


@dataclass(frozen=True)
class TokenLogprob:
    """How likely a token was, and which were likelier.

    Attributes:
        token_id: the token.
        logprob: natural logarithm of its probability under the model, at temperature 1, before any
            penalty or bias and before anything is cut off. None for the first token of a context,
            which no distribution precedes.
        top: the likeliest tokens with theirs, likeliest first, ties in the order of ids.
    """

    token_id: int
    logprob: float | None
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
