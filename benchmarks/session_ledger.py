"""What a client knows of a session on a server: what it was told, and what may follow."""

from collections.abc import Sequence
from dataclasses import dataclass, field


class LedgerError(AssertionError):
    """A session is not what it was said to be.

    Attributes:
        missing: how many acknowledged tokens are not there.
        invented: how many tokens are there that would not have come without an interruption.
    """

    def __init__(self, what: str, *, missing: int = 0, invented: int = 0) -> None:
        super().__init__(what)
        self.missing = missing
        self.invented = invented


@dataclass
class Ledger:
    """One session.

    Attributes:
        id: of the session.
        log: its acknowledged tokens.
        ahead: the tokens that the turn under way will add, in order, if nothing interrupts it.
        n_prompt: how many of these are the prompt's, which come first, all together or not at all.
        replacement: the log that the session gets if a restore under way succeeds.
        may_be_gone: whether its creation or its deletion is under way.
        n_turns: how many turns it has had.
    """

    id: str
    log: list[int] = field(default_factory=list)
    ahead: list[int] = field(default_factory=list)
    n_prompt: int = 0
    replacement: list[int] | None = None
    may_be_gone: bool = False
    n_turns: int = 0

    def begin(self, prompt: Sequence[int], answer: Sequence[int]) -> None:
        """Note that a turn is sent; `answer` is all that it can add to the log after the prompt."""
        self.ahead = [*prompt, *answer]
        self.n_prompt = len(prompt)
        self.n_turns += 1

    def accept_prompt(self) -> None:
        """Note that the server has begun to answer the turn, and so has committed the prompt."""
        n_prompt, self.n_prompt = self.n_prompt, 0
        self.accept(self.ahead[:n_prompt])

    def accept(self, token_ids: Sequence[int]) -> None:
        """Note that the server has sent these tokens.

        Raises:
            LedgerError: they are not what comes next.
        """
        n = len(token_ids)
        if self.ahead[:n] != list(token_ids):
            raise LedgerError(
                f"{self.id}: said {list(token_ids)} in place of {self.ahead[:n]}",
                invented=n - _n_alike(self.ahead, token_ids),
            )
        self.log += token_ids
        del self.ahead[:n]

    def reconcile(self, found: Sequence[int] | None) -> int:
        """Compare with the log that the server has, and go on from that log.

        What is left of the turn that was under way stays in `ahead`.

        Args:
            found: the server's log; None if it does not know the session.

        Returns:
            Tokens of the log beyond those that were acknowledged.

        Raises:
            LedgerError: this log cannot have come about.
        """
        log, ahead, n_prompt = self.log, self.ahead, self.n_prompt
        others, gone = self.replacement, self.may_be_gone
        self.replacement, self.may_be_gone = None, False
        if found is None:
            self.ahead, self.n_prompt = [], 0
            if not gone:
                raise LedgerError(f"{self.id} does not exist", missing=max(1, len(log)))
            return 0
        self.log, self.ahead, self.n_prompt = list(found), [], 0
        if others is not None and self.log == others:
            return 0
        n_alike = _n_alike(log, found)
        if n_alike < len(log):
            raise LedgerError(
                f"{self.id}: of {len(log)} acknowledged tokens the first {n_alike} are there, of "
                f"{len(found)} in all",
                missing=len(log) - n_alike,
                invented=len(found) - n_alike,
            )
        beyond = self.log[len(log) :]
        n_expected = _n_alike(ahead, beyond)
        if n_expected < len(beyond):
            raise LedgerError(
                f"{self.id}: {beyond} follows what was acknowledged, in place of {ahead}",
                invented=len(beyond) - n_expected,
            )
        if 0 < len(beyond) < n_prompt:
            raise LedgerError(
                f"{self.id}: {len(beyond)} of a prompt's {n_prompt} tokens are there",
                invented=len(beyond),
            )
        if beyond or not n_prompt:
            self.ahead = ahead[len(beyond) :]
        return len(beyond)


def _n_alike(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two lists have in common at their beginnings."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
