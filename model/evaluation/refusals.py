"""Whether a model can tell what it has read from what it has not, when it is asked to recall it."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.random import Generator
from pydantic import TypeAdapter

from model.checkpoint import Checkpoint
from model.evaluation.asking import Question, Reply, ask
from model.evaluation.copier import reads_text, recalling_task
from model.evaluation.cost import token_cost
from model.evaluation.errors import EvaluationError
from model.evaluation.facts import PATTERNS, draw_facts, passages_of
from model.evaluation.measuring import Advance, Measurement, Part
from model.evaluation.near_misses import SORTS, draw_miss
from model.evaluation.passages import KINDS, Material, read_passages
from model.evaluation.queries import PLACES, Query, draw_queries, prefix_counts
from model.evaluation.recall import check_pools, most_sessions
from model.evaluation.refusal_cell import BY_NAME, Cell, calibrated, markdown_tables

_FACT_TOKENS = 30  # fewer than any fact and its turn take

_Pair = tuple[Question, Question]
"""A question for what a session has read, and one for what it has not."""

_Pairs = Callable[[Generator, int, str, int], list[_Pair]]
"""Draws pairs about one session: of a prefix and a sort, at most so many."""

_Read = Callable[[Generator], tuple[list[int], _Pairs]]
"""Lets a session read; gives all its tokens."""


def refusals(
    checkpoint: Checkpoint, *, pools: list[int], prefixes: list[int], n_queries: int, seed: int
) -> Measurement[Cell]:
    """The measurement of refusals: sessions are asked for what they have read, and for what not.

    A session of passages is asked for prefixes that stand in it at one place, from the beginning
    and the middle of passages in turn, and for as many that stand nowhere in it, of each sort of
    `SORTS`. If the model reads text, a session of facts is asked for some of them, and for as many
    names that it never read. What is asked for has been found as well as its match says; a session
    is asked for its recalls as in `recall`.

    Args:
        checkpoint: the model; its tokenizer decides the kinds.
        pools: tokens that sessions hold before they are asked.
        prefixes: tokens that are given, at least two.
        n_queries: pairs of each kind, pool, prefix and sort.
        seed: decides all of it; what is in a cell depends on seed, kind, pool, prefix and sort
            alone.

    Raises:
        EvaluationError: the model does not copy, or was not trained for recall; pools and prefixes
            are not possible, see `recall`.
    """
    task = recalling_task(checkpoint)
    check_pools(checkpoint, pools, prefixes)
    if min(prefixes) < 2:
        raise EvaluationError(f"prefixes must have at least 2 tokens, got {min(prefixes)}")
    least = task.least_match("recall")
    return Measurement(
        settings={"seed": seed, "pools": pools, "prefixes": prefixes, "queries": n_queries},
        cells=TypeAdapter(list[Cell]),
        parts=list(_parts(checkpoint, pools, prefixes, n_queries, seed)),
        show=lambda cells: markdown_tables(cells, least),
        summarize=lambda cells: {
            "least_match": least,
            "calibrated_least_match": calibrated(cells),
        },
    )


def _parts(
    checkpoint: Checkpoint, pools: list[int], prefixes: list[int], n_queries: int, seed: int
) -> Iterator[Part[Cell]]:
    kinds = KINDS[checkpoint.tokenizer.name]
    wanted = [(prefix, sort) for prefix in prefixes for sort in SORTS]
    for pool in pools:
        for number, kind in enumerate(kinds):
            read = partial(_read_passages, checkpoint, kinds[kind], pool)
            yield _part(checkpoint, kind, pool, wanted, n_queries, [seed, pool, number], read)
        for number, pattern in enumerate(PATTERNS if reads_text(checkpoint) else (), len(kinds)):
            read = partial(_read_facts, checkpoint, pattern, pool)
            asked = [(0, BY_NAME)]
            yield _part(checkpoint, pattern, pool, asked, n_queries, [seed, pool, number], read)


def _part(
    checkpoint: Checkpoint,
    kind: str,
    pool: int,
    wanted: list[tuple[int, str]],
    n_queries: int,
    seed: list[int],
    read: _Read,
) -> Part[Cell]:
    cost = token_cost(pool)

    def measure(advance: Advance) -> list[Cell]:
        found = _replies(
            checkpoint, read, wanted, n_queries, pool, seed, lambda n: advance(n * cost)
        )
        return [_cell(kind, pool, *one, pairs) for one, pairs in found.items()]

    return Part(
        name=f"{kind}, pool of {pool:,}",
        keys=[(kind, pool, *one) for one in wanted],
        work=n_queries * len(wanted) * cost,
        measure=measure,
    )


def _replies(
    checkpoint: Checkpoint,
    read: _Read,
    wanted: list[tuple[int, str]],
    n_queries: int,
    pool: int,
    seed: list[int],
    advance: Advance,
) -> dict[tuple[int, str], list[tuple[Reply, Reply]]]:
    """The replies to pairs of questions. Sessions read until there are enough of each."""
    found: dict[tuple[int, str], list[tuple[Reply, Reply]]] = {one: [] for one in wanted}
    for number in range(most_sessions(n_queries, pool)):
        if min(map(len, found.values())) == n_queries:
            break
        token_ids, draw = read(np.random.default_rng([*seed, number]))
        pairs = [
            ((prefix, sort), pair)
            for place, ((prefix, sort), replies) in enumerate(found.items())
            for pair in draw(
                np.random.default_rng([*seed, number, prefix, place]),
                prefix,
                sort,
                n_queries - len(replies),
            )
        ]
        questions = [question for _, pair in pairs for question in pair]
        replies = list(ask(checkpoint, token_ids, questions, advance, cost=0.5))
        for (one, _), hit, miss in zip(pairs, replies[::2], replies[1::2], strict=True):
            found[one].append((hit, miss))
    advance(sum(n_queries - len(replies) for replies in found.values()))
    return found


def _read_passages(
    checkpoint: Checkpoint, material: Material, pool: int, rng: Generator
) -> tuple[list[int], _Pairs]:
    reading = read_passages(rng, checkpoint.config, material, pool)
    text = np.array([token for passage in reading.passages for token in passage])

    def draw(rng: Generator, prefix: int, sort: str, most: int) -> list[_Pair]:
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


def _read_facts(
    checkpoint: Checkpoint, pattern: str, pool: int, rng: Generator
) -> tuple[list[int], _Pairs]:
    facts = draw_facts(rng, pattern, pool // _FACT_TOKENS)
    token_ids: list[int] = []
    n_read = 0
    for passage in passages_of(facts, 1):
        turn = checkpoint.task.frame(list(passage.encode()), "copy")
        if len(token_ids) + len(turn) > pool:
            break
        token_ids += turn
        n_read += 1
    said, others = facts[:n_read], facts[n_read:]

    def draw(rng: Generator, prefix: int, sort: str, most: int) -> list[_Pair]:  # noqa: ARG001
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


def _cell(kind: str, pool: int, prefix: int, sort: str, pairs: list[tuple[Reply, Reply]]) -> Cell:
    return Cell(
        kind,
        pool,
        prefix,
        sort,
        right=[_match(hit) for hit, _ in pairs if hit.is_exact],
        wrong=[_match(hit) for hit, _ in pairs if not hit.is_exact],
        missing=[_match(miss) for _, miss in pairs],
    )


def _match(reply: Reply) -> float:
    if reply.match is None:
        raise EvaluationError(
            "this model does not tell how well it has found what it looked for, so it cannot refuse"
        )
    return reply.match
