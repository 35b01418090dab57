"""What counts as right."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from causalrn.model.checkpoint import Checkpoint, load_checkpoint
from causalrn.model.decoder import Decoder
from causalrn.model.reproduction.job import Job
from causalrn.model.reproduction.measuring import Measured, accuracy, measure
from causalrn.model.tasks.copying import Copying, CopyingParams
from tests.model.tiny import random_checkpoint

CHECKPOINTS = Path(__file__).parents[3] / "checkpoints"

EOS = 2


def test_accuracy_is_the_papers() -> None:
    sources = np.array([[5, 6, 7, 8]] * 4)
    written = np.array(
        [
            [5, 6, 7, 8, EOS],  # right
            [5, 9, 7, 8, EOS],  # one wrong letter
            [5, 6, 7, EOS, EOS],  # ends too early
            [5, 6, 7, 8, 9],  # does not end
        ]
    )
    assert accuracy(written, sources, EOS).tolist() == [1.0, 0.75, 0.0, 0.0]


def test_a_model_that_copies_copies_all() -> None:
    loaded = load_checkpoint(CHECKPOINTS / "copy-az")
    params = CopyingParams(min_length=9, max_length=9, batch_tokens=900, max_offset=1)
    task = Copying(params, loaded.tokenizer, loaded.config)
    assert measure(replace(loaded, task=task), seed=0, length=9) == Measured(1.0, 1.0, 1.0)


def test_a_model_that_knows_nothing_copies_none(tmp_path: Path) -> None:
    loaded = random_checkpoint(tmp_path)
    params = CopyingParams(min_length=5, max_length=5, batch_tokens=300, max_offset=1)
    task = Copying(params, loaded.tokenizer, loaded.config)
    copied = measure(replace(loaded, task=task), seed=0, length=5)
    assert copied.exact == 0
    assert copied.soft < 0.2
    assert copied.hard < 0.2


def test_held_out_strings_are_none_of_the_training() -> None:
    task = Job("normalized", 16, 1e-3, 320, 10, 1, 16, seed=1).preset().blueprint.task
    trained = {
        tuple(row)
        for step in range(10)
        for row in task.batch(np.random.default_rng([1, step]), 0).token_ids.tolist()
    }
    held_out = task.batch(np.random.default_rng([1, 16, 1]), 1.0).token_ids.tolist()
    assert len(held_out) == 320
    assert trained.isdisjoint(map(tuple, held_out))


def test_other_tasks_have_one_accuracy() -> None:
    job = Job("normalized", 3, 1e-3, 8, 10, 1, 16, seed=1, task="associative")
    blueprint = job.preset().blueprint
    torch.manual_seed(0)
    checkpoint = Checkpoint(
        "random", Path(), blueprint.config, blueprint.tokenizer, blueprint.task,
        Decoder(blueprint.config), "0" * 64,
    )  # fmt: skip
    measured = measure(checkpoint, seed=1, length=3)
    assert measured.soft == measured.hard == measured.exact
    assert measured.soft < 0.1
