"""Scores over held-out batches, for tasks that have no measurement of their own."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from model.checkpoint import Checkpoint
from model.evaluation.tables import markdown
from model.tasks.base import IGNORED

_HELD_OUT = 1  # sets the seeds of these batches apart from those of training


def evaluate_scores(
    checkpoint: Checkpoint, *, n_batches: int, seed: int, advance: Callable[[int], None]
) -> Iterator[dict[str, float]]:
    """Score batches that no training has seen, as difficult as those at the end of a run.

    Args:
        checkpoint: the model.
        n_batches: how many to draw.
        seed: decides the batches; each depends on the seed and its own number alone.
        advance: called with the number of batches done, for a progress display.

    Yields:
        For each batch, the mean cross-entropy in nats as `loss`, and the task's scores.
    """
    for number in range(n_batches):
        batch = checkpoint.task.batch(np.random.default_rng([seed, number, _HELD_OUT]), 1.0)
        with torch.no_grad():
            logits = checkpoint.decoder(batch.token_ids, batch.offsets)
            wanted = batch.targets != IGNORED
            loss = cross_entropy(logits[wanted], batch.targets[wanted]).item()
            yield {"loss": loss, **checkpoint.task.score(logits, batch)}
        advance(1)


def mean_scores(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Each score averaged over the batches, at least one; all batches count alike."""
    return {name: sum(one[name] for one in scores) / len(scores) for name in scores[0]}


def markdown_table(scores: Sequence[Mapping[str, float]]) -> str:
    """A Markdown table of the averages."""
    body = [[name, f"{value:.4f}"] for name, value in mean_scores(scores).items()]
    return markdown([["score", f"mean of {len(scores)} batches"], *body])
