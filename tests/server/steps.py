"""What tests do to the steps of a fake model, through its decoder's `before_extend`."""

from collections.abc import Callable
from typing import NoReturn

from causalrn.model.state import RaggedBatch


class AtStep:
    """Does something before one step, and lets all others pass.

    Args:
        number: of the step, counted from 1 and from the moment this is put in place.
        act: what to do there; it may block, or raise.

    Attributes:
        n_steps: steps so far.
    """

    def __init__(self, number: int, act: Callable[[RaggedBatch], None]) -> None:
        self._number = number
        self._act = act
        self.n_steps = 0

    def __call__(self, batch: RaggedBatch) -> None:
        self.n_steps += 1
        if self.n_steps == self._number:
            self._act(batch)


def fail(_: RaggedBatch) -> NoReturn:
    """Fail the step."""
    raise RuntimeError("injected")


def die(_: RaggedBatch) -> NoReturn:
    """End the engine's thread in the middle of the step."""
    raise SystemExit
