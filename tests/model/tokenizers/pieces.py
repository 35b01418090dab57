"""Streams of ids that come in pieces."""

from collections.abc import Sequence
from itertools import pairwise


def in_pieces(ids: Sequence[int], cuts: Sequence[int]) -> list[Sequence[int]]:
    """The ids, cut at these places, which may be anywhere."""
    bounds = [0, *sorted(cut % (len(ids) + 1) for cut in cuts), len(ids)]
    return [ids[a:b] for a, b in pairwise(bounds)]
