"""Markdown tables of measured shares."""

from collections.abc import Sequence


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table. The first row is its head; all columns but the first hold numbers."""
    head, *body = rows
    rule = ["---", *("---:" for _ in head[1:])]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *body))


def percent(part: int, whole: int) -> str:
    """A share in per cent, rounded down: 100 means all. Nothing for a share of nothing."""
    if not whole:
        return ""
    return "100" if part == whole else f"{10_000 * part // whole / 100:.2f}"
