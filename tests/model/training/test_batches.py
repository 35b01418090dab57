"""Batches that are drawn ahead are those that would be drawn when they are needed."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.random import Generator

from causalrn.model.tasks.base import Batch, Task
from causalrn.model.training.batches import Batches
from causalrn.model.training.preset import Preset, load_preset
from tests.model.tiny import TINY

LAST = 45


class Noted:
    """A task that notes which shares of the run it was asked for, and may fail."""

    def __init__(self, task: Task, fails: Callable[[float], bool]) -> None:
        self.shares: list[float] = []
        self.threads: set[int] = set()
        self._task, self._fails = task, fails

    def batch(self, rng: Generator, share: float) -> Batch:
        self.shares.append(share)
        self.threads.add(threading.get_ident())
        if self._fails(share):
            raise ValueError("nothing to draw")
        return self._task.batch(rng, share)


def noted(fails: Callable[[float], bool] = lambda _: False) -> tuple[Preset, Noted]:
    preset = load_preset(str(TINY))
    task = Noted(preset.blueprint.task, fails)
    blueprint = replace(preset.blueprint, task=cast(Any, task))
    return replace(preset, blueprint=blueprint), task


@pytest.mark.parametrize("n_ahead", [0, 1, 3])
def test_batches_depend_on_their_step_alone(n_ahead: int) -> None:
    preset = load_preset(str(TINY))
    batches = Batches(preset, n_ahead)
    for step in (0, 1, 2, 7, 8, 3, LAST - 1):
        rng = np.random.default_rng([preset.seed, step])
        expected = preset.blueprint.task.batch(rng, step / LAST)
        got = batches.of_step(step)
        assert torch.equal(got.token_ids, expected.token_ids)
        assert torch.equal(got.targets, expected.targets)
        assert torch.equal(got.offsets, expected.offsets)


@pytest.mark.parametrize("n_ahead", [0, 2])
def test_so_many_are_drawn_ahead_and_no_more(n_ahead: int) -> None:
    preset, task = noted()
    batches = Batches(preset, n_ahead)
    for step in range(LAST):
        batches.of_step(step)
        assert len(task.shares) <= min(step + 1 + n_ahead, LAST)
    assert [round(share * LAST) for share in task.shares] == list(range(LAST))
    assert len(task.threads) == 1
    assert (threading.get_ident() in task.threads) == (n_ahead == 0)


def test_a_batch_that_cannot_be_drawn_fails_its_own_step() -> None:
    preset, _ = noted(fails=lambda share: share == 2 / LAST)
    batches = Batches(preset, 2)
    for step in (0, 1):
        batches.of_step(step)
    with pytest.raises(ValueError, match="nothing to draw"):
        batches.of_step(2)
