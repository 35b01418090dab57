"""From logits to a token: greedy, or a seeded draw from a truncated distribution."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from causalrn.model.draws import Changes, Draw


def _token_id(key: Any) -> int:
    """A token id, given as a number, or in decimal as a key of JSON, which must be a string."""
    if isinstance(key, str) and re.fullmatch(_DECIMAL, key):
        return int(key)
    if type(key) is int and key >= 0:
        return key
    raise PydanticCustomError("token_id", "must be a token id in decimal")


_DECIMAL = "^(0|[1-9][0-9]{0,8})$"
_MOST_BIASED = 300
_TokenId = Annotated[
    int, BeforeValidator(_token_id), WithJsonSchema({"type": "string", "pattern": _DECIMAL})
]
# Other servers write -1 where a number asks for nothing, and so their clients send it.
_TopK = Annotated[int, Field(ge=-1, le=2**31 - 1), AfterValidator(lambda k: max(k, 0))]
_Seed = Annotated[
    int | None,
    Field(ge=-1, lt=2**63),  # the bound is exact as a JSON number, unlike the largest seed
    AfterValidator(lambda seed: None if seed == -1 else seed),
]
_Bias = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
_Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]


class SamplingParams(BaseModel):
    """How tokens are chosen.

    Every field is defined here and nowhere else: the fields of requests to the server are made of
    these, and so are the options of `causalrn generate`.

    Before all else, the logits of a step are changed, in this order: `repetition_penalty`, then
    `presence_penalty` and `frequency_penalty`, then `logit_bias`. A draw is then narrowed down by
    `top_k`, by `min_p` and by `top_p`, in this order, at the temperature.

    Raises:
        ValidationError: a value is outside its range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float = Field(
        default=0.0,
        ge=0,
        le=2,
        allow_inf_nan=False,
        description="0 takes the likeliest token; more draws ever more freely.",
    )
    top_k: _TopK = Field(
        default=0, description="Draw from the k likeliest tokens only; 0 or -1 for all."
    )
    top_p: float = Field(
        default=1.0,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Draw from the fewest likeliest tokens whose probabilities reach this sum.",
    )
    min_p: float = Field(
        default=0.0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Draw only from tokens at least this share as likely as the likeliest; 0 for "
        "all.",
    )
    seed: _Seed = Field(
        default=None, description="Makes a draw repeatable; by default, or with -1, it is not."
    )
    logit_bias: Annotated[dict[_TokenId, _Bias], Field(max_length=_MOST_BIASED)] = Field(
        default_factory=dict,
        json_schema_extra={"additionalProperties": False},
        description="What is added to the logits of some ids, before a token is chosen.",
    )
    presence_penalty: _Penalty = Field(
        default=0.0, description="Taken from the logit of every id that was generated already."
    )
    frequency_penalty: _Penalty = Field(
        default=0.0,
        description="Taken from the logit of an id as many times as it was generated already.",
    )
    repetition_penalty: float = Field(
        default=1.0,
        ge=0.01,
        le=10,
        allow_inf_nan=False,
        description="Divides the logit of every id that the prompt has or that was generated if "
        "it is above 0, and multiplies it if it is not. 1 changes nothing.",
    )

    @property
    def changes_logits(self) -> bool:
        """Whether a token is chosen by anything but the model's own logits."""
        return bool(self.logit_bias) or self.penalizes

    @property
    def penalizes(self) -> bool:
        """Whether it counts for the choice of a token which ones came before."""
        return (
            self.presence_penalty != 0
            or self.frequency_penalty != 0
            or self.repetition_penalty != 1
        )


class Sampler:
    """Chooses the tokens of one sequence, or says how a backend is to choose them.

    With a seed, its choices depend on the seed, the logits and the sequence's own tokens alone.

    Args:
        params: how tokens are chosen.
        index: which of several samples of one prompt this is; each draws from its own generator.
        prompt: ids that the sequence begins with, for `repetition_penalty`.
    """

    def __init__(self, params: SamplingParams, index: int = 0, prompt: Sequence[int] = ()) -> None:
        self.params = params
        self._changes_logits = params.changes_logits
        self._known = set(prompt) if params.repetition_penalty != 1 else set()
        self._counts: Counter[int] = Counter()
        self._n_taken = 0
        self._rng = None
        self._key = 0
        if params.temperature > 0:
            seed = params.seed
            seeds = np.random.SeedSequence([seed, index] if seed is not None and index else seed)
            self._rng = np.random.default_rng(seeds)
            self._key = int(seeds.generate_state(1, np.uint64)[0])

    @property
    def is_greedy(self) -> bool:
        """Whether the model's own likeliest token is taken, ties going to the lowest id."""
        return self._rng is None and not self._changes_logits

    def sample(self, logits: NDArray[np.float32], banned: int | None = None) -> int:
        """Choose a token from finite logits `[V]`; ties go to the lowest id.

        Args:
            logits: as the model computed them.
            banned: an id that must not be chosen, however likely; None for none.
        """
        changes = self._changes(banned)
        token_id = self._choose(logits if changes is None else changes.apply(logits))
        self.take(token_id)
        return token_id

    def draws(self, draft: Sequence[int], banned: Sequence[int | None]) -> list[Draw]:
        """How the next token is chosen, and one after each token of a draft, if it is right.

        Whoever makes these draws says with `take` what came of them.

        Args:
            draft: ids that may come next.
            banned: for each of the tokens to choose, as for `sample`.
        """
        ahead = copy(self)
        ahead._known, ahead._counts = set(self._known), Counter(self._counts)
        draws = [ahead._draw(banned[0])]
        for token_id, one in zip(draft, banned[1:], strict=True):
            ahead.take(token_id)
            draws.append(ahead._draw(one))
        return draws

    def draw_ahead(self, banned: int | None = None) -> Draw:
        """How the token after the next one is chosen, which may be any if nothing is penalized.

        Args:
            banned: as for `sample`.
        """
        return replace(self._draw(banned), number=self._n_taken + 1)

    def take(self, token_id: int) -> None:
        """Go on after a token that was chosen."""
        self._n_taken += 1
        if self._changes_logits:
            self._known.add(token_id)
            self._counts[token_id] += 1

    def _draw(self, banned: int | None) -> Draw:
        params = self.params
        return Draw(
            params.temperature,
            params.top_k,
            params.top_p,
            params.min_p,
            self._key,
            self._n_taken,
            self._changes(banned),
        )

    def _changes(self, banned: int | None) -> Changes | None:
        """What penalties, bias and a ban do to the logits of the next token; None for nothing."""
        if banned is None and not self._changes_logits:
            return None
        params, known = self.params, self._known
        bias = params.logit_bias if banned is None else params.logit_bias | {banned: -math.inf}
        ids = [*bias, *(known - bias.keys())]  # whatever was generated is known
        is_known = np.fromiter(map(known.__contains__, ids), np.bool_, len(ids))
        n_times = np.fromiter(map(self._counts.get, ids, repeat(0)), np.int64, len(ids))
        taken = params.presence_penalty + params.frequency_penalty * n_times
        added = np.zeros(len(ids))
        added[: len(bias)] = list(bias.values())
        return Changes(
            np.array(ids, np.int64),
            np.where(is_known, params.repetition_penalty, 1.0),
            np.where(n_times > 0, taken, 0.0),
            added,
        )

    def _choose(self, logits: NDArray[np.float32] | NDArray[np.float64]) -> int:
        if self._rng is None:
            return int(logits.argmax())
        order, cumulative = self._kept(logits)
        drawn = self._rng.random() * cumulative[-1]
        place = int(np.searchsorted(cumulative, drawn, side="right"))
        # A draw may round up to the total: then the last token that has a weight.
        last = int(np.searchsorted(cumulative, cumulative[-1]))
        return int(order[min(place, last)])

    def _kept(
        self, logits: NDArray[np.float32] | NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The ids that may be drawn, likeliest first, and the sums of their weights up to each."""
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
        return order, cumulative


@dataclass(frozen=True)
class TokenLogprob:
    """How likely a token was, and which were likelier.

    Attributes:
        token_id: the token.
        logprob: natural logarithm of its probability under the model, at temperature 1, before any
            penalty or bias and before anything is cut off. None for the first token of a context,
            which no distribution precedes.
        top: the likeliest tokens, each with its log-probability, likeliest first, ties in the
            order of ids.
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
