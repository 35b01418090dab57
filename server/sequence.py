"""One sequence of tokens on its way through the scheduler."""

from dataclasses import dataclass, field
from enum import Enum, auto


class Status(Enum):
    """Where a sequence is. It only ever moves downwards in this list."""

    WAITING = auto()
    RUNNING = auto()
    FINISHED = auto()


@dataclass(eq=False)
class Sequence:
    """Tokens known, tokens computed, and what they occupy.

    Attributes:
        id: unique among live sequences.
        token_ids: the wrapped prompt, then what was generated.
        n_prompt: tokens of the wrapped prompt.
        max_tokens: tokens that may be generated.
        n_computed: tokens that the pool already holds.
        pages: pages of the pool, in order, that hold them; empty unless running.
        slot: fixed-size state slot; None unless running.
    """

    id: str
    token_ids: list[int]
    max_tokens: int
    n_prompt: int = field(init=False)
    n_computed: int = 0
    status: Status = Status.WAITING
    pages: list[int] = field(default_factory=list)
    slot: int | None = None

    def __post_init__(self) -> None:
        """Raise `ValueError` for a sequence with nothing to read or to generate."""
        if not self.token_ids or self.max_tokens < 1:
            raise ValueError("a sequence needs a token to read and one to generate")
        self.n_prompt = len(self.token_ids)

    @property
    def n_generated(self) -> int:
        """Tokens generated so far."""
        return len(self.token_ids) - self.n_prompt

    @property
    def n_uncomputed(self) -> int:
        """Known tokens that the pool does not hold yet; 1 while decoding."""
        return len(self.token_ids) - self.n_computed

    @property
    def max_held(self) -> int:
        """Most tokens that the pool will ever hold; the last one generated is never read."""
        return self.n_prompt + self.max_tokens - 1
