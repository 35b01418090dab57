"""How well a model does what it was not trained on; copies are counted as the paper does."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.checkpoint import Checkpoint
from model.generation import generate
from model.tasks.base import IGNORED
from model.tasks.copying import Copying

N_STRINGS = 128
_BATCHES = 4  # of other tasks
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


def measure(checkpoint: Checkpoint, seed: int) -> Measured:
    """Have a model do what was held out of its training.

    Args:
        checkpoint: the model. If its task is copying, strings are of one length.
        seed: of its training.
    """
    task = checkpoint.task
    if isinstance(task, Copying):
        return _copies(checkpoint, seed, task.params.max_length)
    rights = []
    for number in range(_BATCHES):
        batch = task.batch(np.random.default_rng([seed, number, _HELD_OUT]), 1.0)
        with torch.no_grad():
            logits = checkpoint.decoder(batch.token_ids, batch.offsets)
        rights.append(task.score(logits, batch.to(logits.device))["accuracy"])
    right = sum(rights) / len(rights)
    return Measured(right, right, right)


def _copies(checkpoint: Checkpoint, seed: int, length: int) -> Measured:
    """`N_STRINGS` strings of one length, copied."""
    task, eos_id = checkpoint.task, checkpoint.config.eos_id
    sources, soft = np.empty((0, length), np.int64), np.empty(0)
    number = 0
    while len(sources) < N_STRINGS:
        batch = task.batch(np.random.default_rng([seed, number, _HELD_OUT]), 1.0)
        wanted = (batch.targets != IGNORED).numpy()
        n = min(len(wanted), N_STRINGS - len(sources))
        own = batch.token_ids.numpy()[:n, 1 : length + 1]
        with torch.no_grad():
            logits = checkpoint.decoder(batch.token_ids[:n], batch.offsets[:n])
        guessed = logits.argmax(-1).cpu().numpy()[wanted[:n]].reshape(n, length + 1)
        sources = np.concatenate([sources, own])
        soft = np.concatenate([soft, accuracy(guessed, own, eos_id)])
        number += 1
    written = np.full((N_STRINGS, length + 1), eos_id)
    steps = generate(checkpoint, sources.tolist(), max_tokens=[length + 1] * N_STRINGS)
    for place, tokens in enumerate(steps):
        for row, token in tokens.items():
            written[row, place] = token
    hard = accuracy(written, sources, eos_id)
    return Measured(float(soft.mean()), float(hard.mean()), float((hard == 1).mean()))


def as_values(measured: Measured) -> dict[str, Any]:
    """For a line of JSON."""
    return {"soft": measured.soft, "hard": measured.hard, "exact": measured.exact}
