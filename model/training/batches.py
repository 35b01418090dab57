"""The batches of a run, drawn one after the other, and some of them ahead of time."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from causalrn.model.tasks.base import Batch
from causalrn.model.training.preset import Preset


class Batches:
    """Draws batches, some of them on a thread of their own before they are asked for.

    A batch depends on the seed and its step alone, so it makes no difference which were drawn
    before; in a run that goes by time, also on that.

    Args:
        preset: the recipe.
        n_ahead: how many batches may wait to be asked for; with 0, there is no such thread.
        seconds: tells the time trained so far.
    """

    def __init__(
        self, preset: Preset, n_ahead: int, seconds: Callable[[], float] = lambda: 0.0
    ) -> None:
        self._preset, self._n_ahead, self._seconds = preset, n_ahead, seconds
        self._drawer = ThreadPoolExecutor(1, "batches")
        self._drawn: dict[int, Future[Batch]] = {}

    def of_step(self, step: int) -> Batch:
        """The batch of a step of the run, counted from 0; those after it are drawn from now on."""
        if not self._n_ahead:
            return self._draw(step)
        optimizer = self._preset.optimizer
        end = step + 1 + self._n_ahead
        if not optimizer.minutes:
            end = min(end, optimizer.last_step)
        self._drawn = {
            number: self._drawn.get(number) or self._drawer.submit(self._draw, number)
            for number in range(step, end)
        }
        return self._drawn.pop(step).result()

    def _draw(self, step: int) -> Batch:
        preset = self._preset
        rng = np.random.default_rng([preset.seed, step])
        return preset.blueprint.task.batch(rng, preset.optimizer.share(step, self._seconds()))
