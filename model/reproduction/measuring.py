"""How well a model does what it was not trained on; copies are counted as the paper does."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from causalrn.model.blueprint import Blueprint
from causalrn.model.checkpoint import Checkpoint
from causalrn.model.generation import generate
from causalrn.model.tasks.base import Batch
from causalrn.model.tasks.copying import Copying

N_STRINGS = 128
_BATCHES = 4  # of other tasks
_AT_A_TIME = 16  # strings that are read at once
_HELD_OUT = 1  # sets the seed of these strings apart from those of training


@dataclass(frozen=True)
class Measured:
    """How much was right. Tasks other than copying have one accuracy, which stands for all three.

    Attributes:
        soft: mean accuracy of strings where the model reads what it should have written.
        hard: the same where it reads what it wrote.
        exact: share of the strings that it wrote without a mistake.
    """

    soft: float
    hard: float
    exact: float


def accuracy(
    written: NDArray[np.int64], sources: NDArray[np.int64], eos_id: int
) -> NDArray[np.float64]:
    """The paper's accuracy of each string: the share of right letters, 0 if it ends elsewhere.

    Args:
        written: `[N, L + 1]`, the last of which should be EOS.
        sources: `[N, L]`.
        eos_id: of EOS.
    """
    ends = (written[:, :-1] != eos_id).all(1) & (written[:, -1] == eos_id)
    share: NDArray[np.float64] = (written[:, :-1] == sources).mean(1)
    return np.where(ends, share, 0.0)


def measure(checkpoint: Checkpoint, seed: int, length: int) -> Measured:
    """Have a model do what was held out of its training.

    Args:
        checkpoint: the model.
        seed: of its training.
        length: of the strings, if its task is copying.
    """
    task = checkpoint.task
    if isinstance(task, Copying):
        return _copies(checkpoint, task, seed, length)
    rights = []
    for number in range(_BATCHES):
        batch = task.batch(np.random.default_rng([seed, number, _HELD_OUT]), 1.0)
        with torch.no_grad():
            logits = checkpoint.decoder(batch.token_ids, batch.offsets)
        rights.append(task.score(logits, batch.to(logits.device))["accuracy"])
    right = sum(rights) / len(rights)
    return Measured(right, right, right)


def held_out(shape: Blueprint | Checkpoint, task: Copying, seed: int, length: int, n: int) -> Batch:
    """Strings that no training with this seed has seen, one a context, from position 0 on."""
    lengths = {"min_length": length, "max_length": length, "first_length": length, "growth": 0.0}
    room = {"batch_tokens": n * (2 * length + 2), "max_strings": n, "max_turns": 1}
    alone = {"corruption": 0.0, "max_offset": 1}
    params = task.params.model_copy(update=lengths | room | alone)
    fixed = Copying(params, shape.tokenizer, shape.config)
    return fixed.batch(np.random.default_rng([seed, length, _HELD_OUT]), 1.0)


def _copies(checkpoint: Checkpoint, task: Copying, seed: int, length: int) -> Measured:
    eos_id = checkpoint.config.eos_id
    batch = held_out(checkpoint, task, seed, length, N_STRINGS)
    sources = batch.token_ids.numpy()[:, 1 : length + 1]
    guesses = []
    for first in range(0, N_STRINGS, _AT_A_TIME):
        part = slice(first, first + _AT_A_TIME)
        with torch.no_grad():
            logits = checkpoint.decoder(batch.token_ids[part], batch.offsets[part])
        guesses.append(logits.argmax(-1).cpu().numpy())
    guessed = np.concatenate(guesses)[:, length + 1 :]
    soft = accuracy(guessed, sources, eos_id)
    written = np.full((N_STRINGS, length + 1), eos_id)
    steps = generate(checkpoint, sources.tolist(), max_tokens=[length + 1] * N_STRINGS)
    for place, tokens in enumerate(steps):
        for row, token in tokens.items():
            written[row, place] = token
    hard = accuracy(written, sources, eos_id)
    return Measured(float(soft.mean()), float(hard.mean()), float((hard == 1).mean()))
