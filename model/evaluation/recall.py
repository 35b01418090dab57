"""Recall of passages read earlier in a session, by kind of text, length of the pool and prefix."""

import numpy as np
from pydantic import TypeAdapter

from causalrn.model.checkpoint import Checkpoint
from causalrn.model.evaluation.asking import Question, Reply, ask
from causalrn.model.evaluation.copier import recalling_task
from causalrn.model.evaluation.cost import token_cost
from causalrn.model.evaluation.errors import EvaluationError
from causalrn.model.evaluation.measuring import Advance, Measurement, Part
from causalrn.model.evaluation.memory import at_once
from causalrn.model.evaluation.passages import (
    LONGEST,
    SHORTEST,
    Material,
    materials_of,
    read_passages,
)
from causalrn.model.evaluation.queries import LEAST_REST, PLACES, Place, Query, draw_queries
from causalrn.model.evaluation.recall_cell import Cell, markdown_tables

_LONGEST_TURN = LONGEST + 3  # tokens, of a turn of recall: BOS SEP passage EOS
_TURN_TOKENS = 160  # about, of a turn that reads a passage


def recall(
    checkpoint: Checkpoint, *, pools: list[int], prefixes: list[int], n_queries: int, seed: int
) -> Measurement[Cell]:
    """The measurement of recall: passages are asked for in turns `BOS SEP prefix`.

    A prefix stands at one place only in all that the session has read. Many recalls branch off from
    one session, and a passage is asked for at most once with a prefix of each length and place.
    Where even twice the usual number of sessions have too few passages that can be asked for (see
    `draw_queries`), a cell has fewer queries than `n_queries`.

    Args:
        checkpoint: the model; its tokenizer decides the kinds.
        pools: tokens that sessions hold before they are asked.
        prefixes: tokens that are given.
        n_queries: of each kind, pool, prefix and place.
        seed: decides the passages; those of a cell depend on seed, kind, pool, prefix and place
            alone.

    Raises:
        EvaluationError: the model does not copy, or was not trained for recall; a pool is too small
            for a passage, or too large for the model with a recall, or for this machine; a prefix
            is longer than passages.
    """
    recalling_task(checkpoint)
    check_pools(checkpoint, pools, prefixes)
    return Measurement(
        settings={"seed": seed, "pools": pools, "prefixes": prefixes, "queries": n_queries},
        cells=TypeAdapter(list[Cell]),
        parts=[
            _part(checkpoint, kind, pool, prefixes, n_queries, [seed, pool, index])
            for pool in pools
            for index, kind in enumerate(materials_of(checkpoint.tokenizer))
        ],
        show=markdown_tables,
    )


def check_pools(checkpoint: Checkpoint, pools: list[int], prefixes: list[int]) -> None:
    """Find out whether sessions of passages can be asked.

    Raises:
        EvaluationError: as `recall` says of pools and prefixes.
    """
    holds = checkpoint.config.max_seq_len - _LONGEST_TURN
    if not SHORTEST + 2 <= min(pools) <= max(pools) <= holds:
        raise EvaluationError(
            f"pools must have between {SHORTEST + 2} and {holds} tokens for {checkpoint.name}, "
            f"got {min(pools)} to {max(pools)}"
        )
    at_once(checkpoint, max(pools))
    if max(prefixes) > LONGEST - LEAST_REST:
        raise EvaluationError(
            f"prefixes must have at most {LONGEST - LEAST_REST} tokens, got {max(prefixes)}"
        )


def _part(
    checkpoint: Checkpoint,
    kind: str,
    pool: int,
    prefixes: list[int],
    n_queries: int,
    seed: list[int],
) -> Part[Cell]:
    material = materials_of(checkpoint.tokenizer)[kind]
    wanted = [(prefix, place) for prefix in prefixes for place in PLACES]
    return Part(
        name=f"{kind}, pool of {pool:,}",
        keys=[(kind, pool, *one) for one in wanted],
        work=n_queries * len(wanted) * token_cost(pool),
        measure=lambda advance: _measure(
            checkpoint, kind, material, pool, wanted, n_queries, seed, advance
        ),
    )


def _measure(
    checkpoint: Checkpoint,
    kind: str,
    material: Material,
    pool: int,
    wanted: list[tuple[int, Place]],
    n_queries: int,
    seed: list[int],
    advance: Advance,
) -> list[Cell]:
    """The cells of one kind and pool. Sessions read until there are enough queries of each."""
    found: dict[tuple[int, Place], list[tuple[Query, Reply]]] = {one: [] for one in wanted}
    different = 0
    for number in range(most_sessions(n_queries, pool)):
        if min(map(len, found.values())) == n_queries:
            break
        reading = read_passages(
            np.random.default_rng([*seed, number]), checkpoint.config, material, pool
        )
        different = different or sum(map(len, reading.passages))
        queries: list[tuple[tuple[int, Place], Query]] = []
        for (prefix, place), replies in found.items():
            number_of_place = [] if place == "beginning" else [PLACES.index(place)]
            drawn = draw_queries(
                np.random.default_rng([*seed, number, prefix, *number_of_place]),
                reading,
                place=place,
                n_prefix=prefix,
                most=n_queries - len(replies),
                window=recalling_task(checkpoint).params.window,
                eos_id=checkpoint.config.eos_id,
            )
            queries += [((prefix, place), query) for query in drawn]
        questions = [Question(query.prefix, query.rest) for _, query in queries]
        answers = ask(checkpoint, reading.token_ids, questions, advance, token_cost(pool))
        for (one, query), reply in zip(queries, answers, strict=True):
            found[one].append((query, reply))
    advance(sum(n_queries - len(replies) for replies in found.values()) * token_cost(pool))
    return [_cell(kind, pool, *one, different, replies) for one, replies in found.items()]


def most_sessions(n_queries: int, pool: int) -> int:
    """How many sessions read at most, until there are enough queries: twice what is usual."""
    return 2 * -(-n_queries // max(1, pool // _TURN_TOKENS))


def _cell(
    kind: str,
    pool: int,
    prefix: int,
    place: Place,
    different: int,
    replies: list[tuple[Query, Reply]],
) -> Cell:
    return Cell(
        kind,
        pool,
        prefix,
        place,
        different,
        n_queries=len(replies),
        exact=sum(reply.is_exact for _, reply in replies),
        n_certain=sum(query.is_certain for query, _ in replies),
        exact_certain=sum(query.is_certain and reply.is_exact for query, reply in replies),
        n_tokens=sum(len(query.rest) + 1 for query, _ in replies),
        tokens_right=sum(reply.right for _, reply in replies),
    )
