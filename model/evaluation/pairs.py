"""Sessions, and pairs of questions about them: one for what was read, and one for what was not."""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from causalrn.model.checkpoint import Checkpoint
from causalrn.model.evaluation.asking import Question
from causalrn.model.evaluation.copier import recalling_task
from causalrn.model.evaluation.facts import draw_facts, passages_of
from causalrn.model.evaluation.near_misses import draw_miss
from causalrn.model.evaluation.passages import Material, read_passages
from causalrn.model.evaluation.queries import PLACES, Query, draw_queries, prefix_counts

_FACT_TOKENS = 30  # fewer than any fact and its turn take

Pair = tuple[Question, Question]
"""A question for what a session has read, and one for what it has not."""

Pairs = Callable[[Generator, int, str, int], list[Pair]]
"""Draws pairs about one session: of a prefix and a sort, at most so many."""

Read = Callable[[Generator], tuple[list[int], Pairs]]
"""Lets a session read; gives all its tokens."""


def session_of_passages(
    checkpoint: Checkpoint, material: Material, pool: int, rng: Generator
) -> tuple[list[int], Pairs]:
    """A session that reads passages of one kind until its pool is full, about.

    Its hits come from the beginning and the middle of passages, half each where there are enough.
    """
    reading = read_passages(rng, checkpoint.config, material, pool)
    text = np.array([token for passage in reading.passages for token in passage])

    def draw(rng: Generator, prefix: int, sort: str, most: int) -> list[Pair]:
        standing = prefix_counts(reading, prefix)
        beginnings = [p[:prefix] for p in reading.passages if len(p) >= prefix]
        queries: list[Query] = []
        for place in PLACES:
            queries += draw_queries(
                rng,
                reading,
                place=place,
                n_prefix=prefix,
                most=-(-most // 2) if place == "beginning" else most - len(queries),
                window=recalling_task(checkpoint).params.window,
                eos_id=checkpoint.config.eos_id,
            )
        return [
            (Question(query.prefix, query.rest), Question(miss, []))
            for query in queries
            if (miss := draw_miss(rng, sort, query.prefix, beginnings, text, standing))
        ]

    return reading.token_ids, draw


def session_of_facts(
    checkpoint: Checkpoint, pattern: str, pool: int, rng: Generator
) -> tuple[list[int], Pairs]:
    """A session that reads facts of one pattern until its pool is full; misses are other names."""
    (facts,) = draw_facts(rng, pattern, pool // _FACT_TOKENS)
    token_ids: list[int] = []
    n_read = 0
    for passage in passages_of(facts, 1):
        turn = checkpoint.task.frame(list(passage.encode()), "copy")
        if len(token_ids) + len(turn) > pool:
            break
        token_ids += turn
        n_read += 1
    said, others = facts[:n_read], facts[n_read:]

    def draw(rng: Generator, prefix: int, sort: str, most: int) -> list[Pair]:  # noqa: ARG001
        n = min(most, len(said), len(others))
        return [
            (
                Question(list(hit.prompt.encode()), list(hit.value.encode())),
                Question(list(miss.prompt.encode()), []),
            )
            for hit, miss in zip(
                (said[i] for i in rng.permutation(len(said))[:n]), others[:n], strict=True
            )
        ]

    return token_ids, draw
