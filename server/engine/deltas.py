"""What the engine makes of a request: the deltas of its samples, and how far it has got."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from causalrn.model.sampling import TokenLogprob
from causalrn.server.errors import ServiceError

FinishReason = Literal["stop", "length", "not_found"]
"""`stop`: the model ended, or a stop string came. `length`: `max_tokens` were generated.
`not_found`: the model found too little of what the prompt asks for, and there is no answer."""


@dataclass(slots=True)  # not frozen, which would cost every token a microsecond
class Delta:
    """What is new in one sample of a request.

    Attributes:
        token_ids: new ids.
        text: new text, of whole characters. It may lag behind the ids by part of a character or of
            a stop string.
        finish_reason: why the sample is over; None while it is not.
        index: which sample of the request this is, from 0.
        logprobs: one for each new id, if they were asked for.
        n_echoed: how many ids at the beginning are the prompt's.
        is_eos: whether the model ended the sample with EOS, which is not among the ids.
        eos_logprob: the log-probability of that EOS, if log-probabilities were asked for.
        text_start: where in the sample's text the new text begins, in characters.
        places: for each new id, where in the sample's text it begins. One that the text has not
            reached yet may turn out to lie in a stop string, which is cut off.
        match: in the last delta of a sample, how well the model found what it looked for, from 0 to
            1; None if it cannot tell.
        verified: in the last delta of a sample, whether it is right; None if nobody can tell.
    """

    token_ids: list[int]
    text: str
    finish_reason: FinishReason | None = None
    index: int = 0
    logprobs: list[TokenLogprob] | None = None
    n_echoed: int = 0
    is_eos: bool = False
    eos_logprob: TokenLogprob | None = None
    text_start: int = 0
    places: list[int] = field(default_factory=list)
    match: float | None = None
    verified: bool | None = None

    @property
    def n_generated(self) -> int:
        """How many of the ids were generated."""
        return len(self.token_ids) - self.n_echoed

    @property
    def text_end(self) -> int:
        """Where in the sample's text the next new text will begin, in characters."""
        return self.text_start + len(self.text)

    def split(self, n: int) -> tuple["Delta", "Delta"]:
        """The first `n` ids with the text before the next id, and the rest; the ends go with it."""
        cut = min(max(self.places[n] - self.text_start, 0), len(self.text))
        first = Delta(
            self.token_ids[:n],
            self.text[:cut],
            None,
            self.index,
            None if self.logprobs is None else self.logprobs[:n],
            min(n, self.n_echoed),
            text_start=self.text_start,
            places=self.places[:n],
        )
        rest = replace(
            self,
            token_ids=self.token_ids[n:],
            text=self.text[cut:],
            logprobs=None if self.logprobs is None else self.logprobs[n:],
            n_echoed=max(0, self.n_echoed - n),
            text_start=first.text_end,
            places=self.places[n:],
        )
        return first, rest

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
            deltas[0].text_start,
            [place for delta in deltas for place in delta.places],
            deltas[-1].match,
            deltas[-1].verified,
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
