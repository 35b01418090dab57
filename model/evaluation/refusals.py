"""Whether a model can tell what it has read from what it has not, when it is asked to recall it."""

from collections.abc import Iterator
from functools import partial

import numpy as np
from pydantic import TypeAdapter

from causalrn.model.checkpoint import Checkpoint
from causalrn.model.evaluation.asking import Reply, ask
from causalrn.model.evaluation.copier import reads_text, recalling_task
from causalrn.model.evaluation.cost import token_cost
from causalrn.model.evaluation.errors import EvaluationError
from causalrn.model.evaluation.facts import PATTERNS
from causalrn.model.evaluation.measuring import Advance, Measurement, Part
from causalrn.model.evaluation.near_misses import SORTS
from causalrn.model.evaluation.pairs import Read, session_of_facts, session_of_passages
from causalrn.model.evaluation.passages import materials_of
from causalrn.model.evaluation.recall import check_pools, most_sessions
from causalrn.model.evaluation.refusal_cell import BY_NAME, Cell, calibrated, markdown_tables

_ALL_SORTS = (*SORTS, BY_NAME)


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
    least = task.least_match("recall") or None
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
    kinds = materials_of(checkpoint.tokenizer)
    wanted = [(prefix, sort) for prefix in prefixes for sort in SORTS]
    for pool in pools:
        for number, kind in enumerate(kinds):
            read = partial(session_of_passages, checkpoint, kinds[kind], pool)
            yield _part(checkpoint, kind, pool, wanted, n_queries, [seed, pool, number], read)
        for number, pattern in enumerate(PATTERNS if reads_text(checkpoint) else (), len(kinds)):
            read = partial(session_of_facts, checkpoint, pattern, pool)
            asked = [(0, BY_NAME)]
            yield _part(checkpoint, pattern, pool, asked, n_queries, [seed, pool, number], read)


def _part(
    checkpoint: Checkpoint,
    kind: str,
    pool: int,
    wanted: list[tuple[int, str]],
    n_queries: int,
    seed: list[int],
    read: Read,
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
    read: Read,
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
            for (prefix, sort), replies in found.items()
            for pair in draw(
                np.random.default_rng([*seed, number, prefix, _ALL_SORTS.index(sort)]),
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
