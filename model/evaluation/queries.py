"""Which passages of a session can be asked for by some of their tokens."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Literal, get_args

from numpy.random import Generator

from causalrn.model.evaluation.passages import Reading

LEAST_REST = 16  # tokens of a passage that are left to recall

Place = Literal["beginning", "middle"]
"""Where in its passage a prefix stands: at the beginning, or anywhere behind it."""

PLACES: tuple[Place, ...] = get_args(Place)


@dataclass(frozen=True)
class Query:
    """A passage that is asked for.

    Attributes:
        prefix: some of its tokens, which are given.
        rest: all that follow them in the passage.
        is_certain: whether each token follows without doubt from those before it: wherever the
            same last `window` tokens were read, the same token followed.
    """

    prefix: list[int]
    rest: list[int]
    is_certain: bool


def prefix_counts(reading: Reading, n: int) -> Counter[tuple[int, ...]]:
    """How often each sequence of n tokens stands in the passages of a session.

    A passage counts once, however often the session read or copied it, as it goes on in the same
    way each time. No sequence reaches from one passage into another.
    """
    return Counter(
        tuple(passage[i : i + n])
        for passage in reading.passages
        for i in range(len(passage) - n + 1)
    )


def draw_queries(
    rng: Generator,
    reading: Reading,
    *,
    place: Place,
    n_prefix: int,
    most: int,
    window: int,
    eos_id: int,
) -> list[Query]:
    """Draw passages that can be asked for, each of them at most once.

    The prefix of such a passage stands at one place only in all that the session read, and at least
    `LEAST_REST` tokens follow it.

    Args:
        rng: decides which, and in which order.
        reading: the session.
        place: where prefixes stand; in the middle, at one of the places that can be asked for.
        n_prefix: tokens that are given.
        most: how many queries to draw at most.
        window: how many of the last tokens decide whether the next one is certain.
        eos_id: what follows the last token of a passage.
    """
    counts = prefix_counts(reading, n_prefix)
    followers = _followers(reading, window, eos_id)
    queries = []
    for passage in reading.passages:
        last = len(passage) - n_prefix - LEAST_REST
        begins = range(1, last + 1) if place == "middle" else range(min(1, last + 1))
        unique = [i for i in begins if counts[tuple(passage[i : i + n_prefix])] == 1]
        if not unique:
            continue
        begin = unique[rng.integers(len(unique))] if place == "middle" else 0
        end = begin + n_prefix
        # Shorter sequences than the window begin with the prefix, which says enough.
        windows = (
            tuple(passage[i - window : i])
            for i in range(max(end, begin + window), len(passage) + 1)
        )
        is_certain = all(len(followers[tokens]) == 1 for tokens in windows)
        queries.append(Query(passage[begin:end], passage[end:], is_certain))
    return [queries[i] for i in rng.permutation(len(queries))[:most]]


def _followers(reading: Reading, width: int, end: int) -> dict[tuple[int, ...], set[int]]:
    """The tokens that follow each sequence of `width` tokens, in all passages."""
    followers: dict[tuple[int, ...], set[int]] = defaultdict(set)
    for passage in reading.passages:
        for place, token in enumerate([*passage[width:], end], width):
            followers[tuple(passage[place - width : place])].add(token)
    return followers
