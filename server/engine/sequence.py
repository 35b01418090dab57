"""One sequence of tokens on its way through the scheduler."""

from dataclasses import dataclass, field
from enum import Enum, auto

from causalrn.server.engine.drafter import Drafter

ROOT = 0
"""The prefix cache's link before every sequence's first page."""


class Status(Enum):
    """Where a sequence is: it waits, runs, may have to wait again, and is finished at last."""

    WAITING = auto()
    RUNNING = auto()
    FINISHED = auto()


@dataclass(eq=False)
class Sequence:
    """Tokens known, tokens computed, and what they occupy.

    Attributes:
        id: unique among live sequences.
        token_ids: the context if there is one, the framed prompt, then what was generated.
        max_tokens: how many tokens may be generated; 0 to only read the prompt.
        rank: its place in the queue; lower ranks are served first. No two are equal.
        reusable: whether memory that others have of the same beginning may be used for it.
        owner: whose memory it may share; it never finds that of others.
        session: the session whose memory it goes on with and leaves behind; None for none.
        goes_back_to: how many tokens the session goes back to if there is no answer; None once one
            has begun, and if there is one in any case.
        n_prompt: tokens of the context and the framed prompt.
        n_computed: tokens that the pool holds.
        n_cached: how many of these did not have to be computed for it.
        pages: pages of the pool, in order, that hold them; empty unless running.
        slot: fixed-size state slot; None unless running.
        placed: whether the slot holds the state of `n_computed` tokens.
        kept_row: the row that has this state, until the sequence is placed; None for none.
        copied_page: the page that must still be copied into the last of `pages`; None for none.
        private: whether some of the memory came from elsewhere, so that no other may share it.
        n_chained: full pages that the prefix cache knows.
        link: the prefix cache's link of the last of these.
        n_again: known tokens that a step has computed, but beside a wrong draft, so that the next
            one computes them again; 0 for most.
        drafter: guesses what comes next; None for nobody.
    """

    id: str
    token_ids: list[int]
    max_tokens: int
    rank: tuple[float, int] = (0.0, 0)
    reusable: bool = True
    owner: str = ""
    session: str | None = None
    goes_back_to: int | None = None
    n_prompt: int = field(init=False)
    n_computed: int = 0
    n_cached: int = 0
    status: Status = Status.WAITING
    pages: list[int] = field(default_factory=list)
    slot: int | None = None
    placed: bool = False
    kept_row: int | None = None
    copied_page: int | None = None
    private: bool = False
    n_chained: int = 0
    link: int = ROOT
    n_again: int = 0
    drafter: Drafter | None = None

    def __post_init__(self) -> None:
        """Raise `ValueError` for a sequence with nothing to read."""
        if not self.token_ids or self.max_tokens < 0:
            raise ValueError("a sequence needs a token to read, and max_tokens of at least 0")
        self.n_prompt = len(self.token_ids)

    @property
    def n_generated(self) -> int:
        """Tokens generated so far."""
        return len(self.token_ids) - self.n_prompt

    @property
    def n_uncomputed(self) -> int:
        """Known tokens that the pool does not hold yet."""
        return len(self.token_ids) - self.n_computed

    @property
    def is_decoding(self) -> bool:
        """Whether its last token is all that is to be computed, but for some once more."""
        return self.n_uncomputed == 1 + self.n_again

    @property
    def n_left(self) -> int:
        """Tokens that may still be generated."""
        return self.max_tokens - self.n_generated

    @property
    def max_held(self) -> int:
        """Most tokens that the pool will ever hold; the last one generated is never read."""
        return max(self.n_prompt, self.n_prompt + self.max_tokens - 1)
