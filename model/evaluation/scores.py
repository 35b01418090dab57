"""Scores over held-out batches, for tasks that have no measurement of their own."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import TypeAdapter
from torch.nn.functional import cross_entropy

from causalrn.model.checkpoint import Checkpoint
from causalrn.model.evaluation.measuring import Advance, Measurement, Part
from causalrn.model.tables import markdown
from causalrn.model.tasks.base import IGNORED

_HELD_OUT = 1  # sets the seeds of these batches apart from those of training


@dataclass(frozen=True)
class Scores:
    """The scores of one batch.

    Attributes:
        number: of the batch, from 0.
        scores: the mean cross-entropy in nats as `loss`, and the task's own scores.
    """

    number: int
    scores: dict[str, float]

    @property
    def key(self) -> int:
        """Which batch it is."""
        return self.number


def scoring(checkpoint: Checkpoint, n_batches: int, seed: int) -> Measurement[Scores]:
    """The measurement on batches that no training has seen, as difficult as at the end of a run.

    Args:
        checkpoint: the model.
        n_batches: how many to draw.
        seed: decides the batches; each depends on the seed and its own number alone.
    """

    def part(number: int) -> Part[Scores]:
        return Part(
            name=f"batch {number + 1}",
            keys=[number],
            work=1,
            measure=lambda advance: [_score(checkpoint, number, seed, advance)],
        )

    return Measurement(
        settings={"seed": seed, "batches": n_batches},
        cells=TypeAdapter(list[Scores]),
        parts=[part(number) for number in range(n_batches)],
        show=markdown_table,
        summarize=lambda results: {"scores": mean_scores(results)},
    )


def _score(checkpoint: Checkpoint, number: int, seed: int, advance: Advance) -> Scores:
    batch = checkpoint.task.batch(np.random.default_rng([seed, number, _HELD_OUT]), 1.0)
    with torch.no_grad():
        logits = checkpoint.decoder(batch.token_ids, batch.offsets)
        batch = batch.to(logits.device)
        wanted = batch.targets != IGNORED
        loss = cross_entropy(logits[wanted], batch.targets[wanted]).item()
        scores = {"loss": loss, **checkpoint.task.score(logits, batch)}
    advance(1)
    return Scores(number, scores)


def mean_scores(results: Sequence[Scores]) -> dict[str, float]:
    """Each score averaged over the batches, at least one; all batches count alike."""
    every = [result.scores for result in results]
    return {name: sum(one[name] for one in every) / len(every) for name in every[0]}


def markdown_table(results: Sequence[Scores]) -> str:
    """A Markdown table of the averages."""
    body = [[name, f"{value:.4f}"] for name, value in mean_scores(results).items()]
    return markdown([["score", f"mean of {len(results)} batches"], *body])
