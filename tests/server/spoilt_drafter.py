"""A drafter that is often wrong, at random places."""

from typing import Any

import numpy as np

from causalrn.server.engine.drafter import Drafter, draft_for


class SpoiltDrafter:
    """Passes drafts on, some of them with wrong tokens in them, and makes some up.

    Args:
        drafter: that it spoils.
        rng: decides which.
        vocab_size: tokens that it makes up are less than this.
    """

    def __init__(self, drafter: Drafter, rng: np.random.Generator, vocab_size: int) -> None:
        self._drafter, self._rng, self._vocab_size = drafter, rng, vocab_size

    def is_ready(self) -> bool:
        return self._drafter.is_ready() or self._rng.random() < 0.3

    def propose(self, room: int) -> list[int]:
        draft = self._drafter.propose(room)
        if self._rng.random() < 0.5:
            more = self._rng.integers(0, self._vocab_size, self._rng.integers(0, 5)).tolist()
            draft = (draft + more)[: max(0, room)]
        if draft and self._rng.random() < 0.4:
            draft[self._rng.integers(len(draft))] = int(self._rng.integers(self._vocab_size))
        return draft

    def judge(self, n_drafted: int, n_right: int) -> None:
        self._drafter.judge(n_drafted, n_right)


def spoil(monkeypatch: Any, vocab_size: int, seed: int = 0) -> None:
    """Have every sequence of a `tests.server.driver.Driver` guess like this from now on."""
    rng = np.random.default_rng(seed)
    monkeypatch.setattr(
        "tests.server.driver.draft_for",
        lambda *args: SpoiltDrafter(draft_for(*args), rng, vocab_size),
    )
