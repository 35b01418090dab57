"""Prefixes that stand nowhere in what a session has read, though some look as if they did."""

from collections.abc import Callable, Collection, Sequence

from numpy.random import Generator

from causalrn.model.tasks.strings import Ids

_MOST_TRIES = 100

Prefix = Sequence[int]


def _one_changed(rng: Generator, true: Prefix, others: Sequence[Prefix], text: Ids) -> list[int]:  # noqa: ARG001
    changed = list(true)
    changed[rng.integers(len(changed))] = int(rng.choice(text))
    return changed


def _joined(rng: Generator, true: Prefix, others: Sequence[Prefix], text: Ids) -> list[int]:  # noqa: ARG001
    cut = int(rng.integers(1, len(true)))
    return [*true[:cut], *others[int(rng.integers(len(others)))][cut:]]


def _random(rng: Generator, true: Prefix, others: Sequence[Prefix], text: Ids) -> list[int]:  # noqa: ARG001
    drawn: list[int] = rng.choice(text, len(true)).tolist()
    return drawn


SORTS: dict[str, Callable[[Generator, Prefix, Sequence[Prefix], Ids], list[int]]] = {
    "one token changed": _one_changed,
    "two prefixes joined": _joined,
    "random text": _random,
}
"""What a miss is made of: of a true prefix, at a random place; of the beginning of one and the end
of another; or of tokens drawn from all that was read."""


def draw_miss(
    rng: Generator,
    sort: str,
    true: Prefix,
    others: Sequence[Prefix],
    text: Ids,
    standing: Collection[tuple[int, ...]],
) -> list[int] | None:
    """Draw a prefix that stands nowhere, as long as a true one; None if that is hard to find.

    Args:
        rng: the source of all randomness.
        sort: key of `SORTS`.
        true: a prefix of at least two tokens that was read.
        others: at least one other.
        text: tokens to choose from.
        standing: all sequences of that length that stand in what the session read.
    """
    for _ in range(_MOST_TRIES):
        drawn = SORTS[sort](rng, true, others, text)
        if tuple(drawn) not in standing:
            return drawn
    return None
