"""Recall of passages read earlier in a session, by kind of text, length of the pool and prefix."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import eq

import numpy as np

from model.checkpoint import Checkpoint
from model.evaluation.copier import copying_task
from model.evaluation.errors import EvaluationError
from model.evaluation.passages import KINDS, LONGEST, SHORTEST, Material, Reading, read_passages
from model.evaluation.queries import LEAST_REST, Query, draw_queries
from model.evaluation.tables import markdown, percent
from model.runner import Runner

_LONGEST_TURN = LONGEST + 3  # tokens, of a turn of recall: BOS SEP passage EOS
_AT_ONCE = 64  # recalls decoded together
_TURN_TOKENS = 160  # about, of a turn that reads a passage


@dataclass(frozen=True)
class Cell:
    """One kind of text at one length of the pool and of the prefix.

    Attributes:
        kind: key of `model.evaluation.passages.KINDS`.
        pool: tokens that sessions hold when they are asked; they may hold up to 50 fewer.
        prefix: tokens of a passage that are given.
        n_queries: passages asked for.
        exact: passages continued to their end without a mistake and ended by EOS there.
        n_certain: of these, passages in which each token follows without doubt from the few before
            it; see `Query.is_certain`.
        exact_certain: of these, passages that are exact.
        n_tokens: tokens to recall, EOS of each passage included.
        tokens_right: tokens before the first mistake.
    """

    kind: str
    pool: int
    prefix: int
    n_queries: int
    exact: int
    n_certain: int
    exact_certain: int
    n_tokens: int
    tokens_right: int


@dataclass(frozen=True)
class _Score:
    """The result of a query: tokens to recall, EOS included, and those before a mistake."""

    query: Query
    n_tokens: int
    right: int


def evaluate_recall(
    checkpoint: Checkpoint,
    *,
    pools: list[int],
    prefixes: list[int],
    n_queries: int,
    seed: int,
    advance: Callable[[int], None],
) -> Iterator[Cell]:
    """Ask for passages by their first tokens, in turns `BOS SEP prefix`, and decode freely.

    Many recalls branch off from one session, and a passage is asked for at most once with a prefix
    of each length. Where even twice the usual number of sessions have too few passages that can be
    asked for (see `draw_queries`), a cell has fewer queries than `n_queries`.

    Args:
        checkpoint: the model; its tokenizer decides the kinds.
        pools: tokens that sessions hold before they are asked.
        prefixes: tokens that are given.
        n_queries: of each kind, pool and prefix.
        seed: decides the passages; those of a cell depend on seed, kind, pool and prefix alone.
        advance: called with the number of queries done, for a progress display; over all cells
            these add up to `n_queries` for each.

    Raises:
        EvaluationError: the model does not copy, or was not trained for recall; a pool is too small
            for a passage, or too large for the model with a recall or for the texts; a prefix is
            longer than passages.
    """
    if "recall" not in copying_task(checkpoint).modes:
        raise EvaluationError(
            f"{checkpoint.name} was not trained for recall; `causalrn evaluate` and "
            "`causalrn evaluate-turns` measure how it copies"
        )
    holds = checkpoint.config.max_seq_len - _LONGEST_TURN
    if not SHORTEST + 2 <= min(pools) <= max(pools) <= holds:
        raise EvaluationError(
            f"pools must have between {SHORTEST + 2} and {holds} tokens for {checkpoint.name}, "
            f"got {min(pools)} to {max(pools)}"
        )
    if max(prefixes) > LONGEST - LEAST_REST:
        raise EvaluationError(
            f"prefixes must have at most {LONGEST - LEAST_REST} tokens, got {max(prefixes)}"
        )
    kinds = list(enumerate(KINDS[checkpoint.tokenizer.name].items()))
    return (
        cell
        for pool in pools
        for index, (kind, material) in kinds
        for cell in _cells(
            checkpoint, kind, material, pool, prefixes, n_queries, [seed, pool, index], advance
        )
    )


def _cells(
    checkpoint: Checkpoint,
    kind: str,
    material: Material,
    pool: int,
    prefixes: list[int],
    n_queries: int,
    seed: list[int],
    advance: Callable[[int], None],
) -> Iterator[Cell]:
    """Cells of one kind and pool. Sessions read until there are enough queries of every prefix."""
    scores: dict[int, list[_Score]] = {prefix: [] for prefix in prefixes}
    for number in range(_most_sessions(n_queries, pool)):
        if min(map(len, scores.values())) == n_queries:
            break
        rng = np.random.default_rng([*seed, number])
        reading = read_passages(rng, checkpoint.config, material, pool)
        queries: list[Query] = []
        for prefix, found in scores.items():
            rng = np.random.default_rng([*seed, number, prefix])
            queries += draw_queries(
                rng,
                reading,
                n_prefix=prefix,
                most=n_queries - len(found),
                window=copying_task(checkpoint).params.window,
                eos_id=checkpoint.config.eos_id,
            )
        for score in _ask(checkpoint, reading, queries, advance):
            scores[len(score.query.prefix)].append(score)
    for prefix, found in scores.items():
        yield _cell(kind, pool, prefix, found)
        advance(n_queries - len(found))


def _most_sessions(n_queries: int, pool: int) -> int:
    return 2 * -(-n_queries // max(1, pool // _TURN_TOKENS))


def _ask(
    checkpoint: Checkpoint,
    reading: Reading,
    queries: Sequence[Query],
    advance: Callable[[int], None],
) -> Iterator[_Score]:
    """Let a session read once, then branch off from there with each query."""
    if not queries:
        return
    n_forks = min(len(queries), _AT_ONCE)
    sessions = Runner(checkpoint, [len(reading.token_ids), *[_LONGEST_TURN] * n_forks])
    sessions.read({0: reading.token_ids})
    for first in range(0, len(queries), n_forks):
        part = queries[first : first + n_forks]
        yield from _recalls(checkpoint, sessions, part)
        advance(len(part))


def _recalls(checkpoint: Checkpoint, sessions: Runner, queries: Sequence[Query]) -> list[_Score]:
    """Fork the first session for each query, and decode until the first mistake."""
    forks = dict(enumerate(queries, 1))
    for fork in forks:
        sessions.fork(0, fork)
    wanted = {fork: [*query.rest, checkpoint.config.eos_id] for fork, query in forks.items()}
    written = sessions.answer(
        {fork: checkpoint.task.frame(query.prefix, "recall") for fork, query in forks.items()},
        lambda fork, ids: ids[-1] == wanted[fork][len(ids) - 1],
    )
    return [
        _Score(query, len(wanted[fork]), sum(map(eq, written[fork], wanted[fork])))
        for fork, query in forks.items()
    ]


def _cell(kind: str, pool: int, prefix: int, scores: list[_Score]) -> Cell:
    exact = [score for score in scores if score.right == score.n_tokens]
    return Cell(
        kind,
        pool,
        prefix,
        n_queries=len(scores),
        exact=len(exact),
        n_certain=sum(score.query.is_certain for score in scores),
        exact_certain=sum(score.query.is_certain for score in exact),
        n_tokens=sum(score.n_tokens for score in scores),
        tokens_right=sum(score.right for score in scores),
    )


def markdown_tables(cells: Sequence[Cell]) -> str:
    """Markdown tables in per cent, rounded down; a cell without queries stays empty.

    They show exact recalls by pool and prefix, and by kind and pool; exact recalls among those that
    are certain, and how many are certain; and the share of tokens before the first fault.
    """
    exact, certain = ("exact", "n_queries"), ("exact_certain", "n_certain")
    tables = (
        _table("exact, by pool and prefix", cells, ("pool", "prefix"), exact),
        _table("exact, by kind and pool", cells, ("kind", "pool"), exact),
        _table("exact where the last tokens say enough", cells, ("kind", "pool"), certain),
        _table("where they do", cells, ("kind", "pool"), ("n_certain", "n_queries")),
        _table("tokens before a fault", cells, ("kind", "pool"), ("tokens_right", "n_tokens")),
    )
    return "\n".join(tables)


def _table(title: str, cells: Sequence[Cell], axes: tuple[str, str], share: tuple[str, str]) -> str:
    """One share, with the values of one field going down and those of another across."""
    down, across = ([str(getattr(cell, axis)) for cell in cells] for axis in axes)
    parts: Counter[tuple[str, str]] = Counter()
    wholes: Counter[tuple[str, str]] = Counter()
    for cell, row, column in zip(cells, down, across, strict=True):
        parts[row, column] += getattr(cell, share[0])
        wholes[row, column] += getattr(cell, share[1])
    columns = list(dict.fromkeys(across))
    body = [
        [row, *(percent(parts[row, column], wholes[row, column]) for column in columns)]
        for row in dict.fromkeys(down)
    ]
    return markdown([[title, *columns], *body])
