"""A table of what full and near matches leave of the keys, for the documents."""

from collections.abc import Mapping
from typing import Any


def prefixes(figures: Mapping[str, Any]) -> str:
    """By the prefix's number of tokens: what is left, and what the tolerance makes of it.

    Args:
        figures: as `benchmarks/residuals.py` publishes them.
    """
    number = figures["queries"]
    rows = [
        "| tokens of the prefix | full matches leave | another first token leaves "
        "| full matches beyond the tolerance | other first tokens within |",
        "|---:|---:|---:|---:|---:|",
    ]
    rows += [
        f"| {one['prefix']} | {_range(one['full'])} | {_range(one['near'])} "
        f"| {number - one['n_tolerated']:,} of {number:,} | {one['n_mistaken']:,} of {number:,} |"
        for one in figures["rows"]
    ]
    return "\n".join(rows)


def _range(values: list[float]) -> str:
    least, mean, most = values
    return f"{least:.2f} to {most:.2f}, {mean:.2f} on average"
