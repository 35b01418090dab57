"""Which passages of a session can be asked for by their first tokens."""

from collections import Counter, defaultdict
from dataclasses import dataclass

from numpy.random import Generator

from model.evaluation.passages import Reading

LEAST_REST = 16  # tokens of a passage that are left to recall


@dataclass(frozen=True)
class Query:
    """A passage that is asked for.

    Attributes:
        prefix: its first tokens, which are given.
        rest: its other tokens.
        is_certain: whether each token follows without doubt from those before it: wherever the
            same last `window` tokens were read, the same token followed.
    """

    prefix: list[int]
    rest: list[int]
    is_certain: bool


def draw_queries(
    rng: Generator, reading: Reading, *, n_prefix: int, most: int, window: int, eos_id: int
) -> list[Query]:
    """Draw passages that can be asked for, each of them at most once.

    Such a passage has at least `LEAST_REST` tokens more than the prefix, and its prefix occurs
    nowhere else in the passages of the session, at their beginnings or inside.

    Args:
        rng: decides which, and in which order.
        reading: the session.
        n_prefix: tokens that are given.
        most: how many queries to draw at most.
        window: how many of the last tokens decide whether the next one is certain.
        eos_id: what follows the last token of a passage.
    """
    places = Counter(
        tuple(passage[i : i + n_prefix])
        for passage in reading.passages
        for i in range(len(passage) - n_prefix + 1)
    )
    followers = _followers(reading, window, eos_id)
    queries = []
    for passage in reading.passages:
        prefix, rest = passage[:n_prefix], passage[n_prefix:]
        if len(rest) < LEAST_REST or places[tuple(prefix)] > 1:
            continue
        seen = (
            tuple(passage[max(0, end - window) : end]) for end in range(n_prefix, len(passage) + 1)
        )
        is_certain = all(len(followers[tokens]) == 1 for tokens in seen)
        queries.append(Query(prefix, rest, is_certain))
    return [queries[i] for i in rng.permutation(len(queries))[:most]]


def _followers(reading: Reading, width: int, end: int) -> dict[tuple[int, ...], set[int]]:
    """The tokens that follow each sequence of up to `width` tokens, in all passages."""
    followers: dict[tuple[int, ...], set[int]] = defaultdict(set)
    for passage in reading.passages:
        for place, token in enumerate([*passage[1:], end], 1):
            for first in range(max(0, place - width), place):
                followers[tuple(passage[first:place])].add(token)
    return followers
