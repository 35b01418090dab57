"""What the engine makes of a request: the deltas of its samples, and how far it has got."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from model.sampling import TokenLogprob
from server.errors import ServiceError

FinishReason = Literal["stop", "length"]
"""`stop`: the model ended, or a stop string came. `length`: `max_tokens` were generated."""


@dataclass(slots=True)  # not frozen, which would cost every token a microsecond
class Delta:
    """What is new in one sample of a request.

    Attributes:
        token_ids: new ids.
        text: new text; it may lag behind the ids by part of a character or of a stop string.
        finish_reason: why the sample is over; None while it is not.
        index: which sample of the request this is, from 0.
        logprobs: one for each new id, if they were asked for.
        n_echoed: how many ids at the beginning are the prompt's.
        is_eos: whether the model ended the sample with EOS, which is not among the ids.
        eos_logprob: the log-probability of that EOS, if log-probabilities were asked for.
    """

    token_ids: list[int]
    text: str
    finish_reason: FinishReason | None = None
    index: int = 0
    logprobs: list[TokenLogprob] | None = None
    n_echoed: int = 0
    is_eos: bool = False
    eos_logprob: TokenLogprob | None = None

    @property
    def n_generated(self) -> int:
        """How many of the ids were generated."""
        return len(self.token_ids) - self.n_echoed

    @classmethod
    def join(cls, deltas: Sequence["Delta"]) -> "Delta":
        """Make one delta of several of the same sample, at least one."""
        if len(deltas) == 1:
            return deltas[0]
        return cls(
            [token_id for delta in deltas for token_id in delta.token_ids],
            "".join(delta.text for delta in deltas),
            deltas[-1].finish_reason,
            deltas[-1].index,
            None
            if deltas[-1].logprobs is None
            else [logprob for delta in deltas for logprob in delta.logprobs or ()],
            sum(delta.n_echoed for delta in deltas),
            deltas[-1].is_eos,
            deltas[-1].eos_logprob,
        )


@dataclass
class Progress:
    """How far a request has got. Times are in seconds of the monotonic clock; the engine sets them.

    Attributes:
        arrived: when it was submitted.
        scheduled: when it took part in a step for the first time.
        first_token, last_token: when the first and the latest token of any sample was made.
        n_cached: tokens of the prompt that did not have to be computed.
    """

    arrived: float
    scheduled: float | None = None
    first_token: float | None = None
    last_token: float | None = None
    n_cached: int = 0


Outcome = tuple[str, Delta | ServiceError]
"""What a step made of one sample: the request's id, and a delta or the error that ended it."""
