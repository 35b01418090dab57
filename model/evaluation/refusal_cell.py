"""The results of asking for what is there and for what is not, and the tables that show them."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from causalrn.model.evaluation.calibration import distribution, least_match, refused
from causalrn.model.tables import markdown, percent

BY_NAME = "a name never said"
"""The sort of the misses in sessions of facts."""


@dataclass(frozen=True)
class Cell:
    """Some prefixes that were read, and as many that stand nowhere.

    Attributes:
        kind: key of `causalrn.model.evaluation.passages.materials_of`, or of
            `causalrn.model.evaluation.facts.PATTERNS`.
        pool: tokens that sessions hold when they are asked; they may hold up to 50 fewer.
        prefix: tokens that are given; 0 for facts, which are asked for by as many as they need.
        sort: key of `causalrn.model.evaluation.near_misses.SORTS`, or `BY_NAME`.
        right: how well each prefix was found that was read, and whose recall is exact.
        wrong: the same where the recall is not exact.
        missing: how well each prefix was found that stands nowhere.
    """

    kind: str
    pool: int
    prefix: int
    sort: str
    right: list[float]
    wrong: list[float]
    missing: list[float]

    @property
    def key(self) -> tuple[str, int, int, str]:
        """Which cell of the measurement it is."""
        return self.kind, self.pool, self.prefix, self.sort


def calibrated(cells: Sequence[Cell]) -> float | None:
    """The least match that refuses hardly any right recall of some cells; None if there is none."""
    hits = [match for cell in cells for match in cell.right]
    return least_match(hits) if hits else None


def markdown_tables(cells: Sequence[Cell], least: float | None) -> str:
    """Markdown tables in per cent, rounded down, and the line that would refuse hardly any hit.

    They show how many misses are refused and how many right recalls are not, and how the matches
    of both are distributed.

    Args:
        cells: at least one.
        least: the match that the model asks for; None if it gives every answer, for the line that
            follows from the cells.
    """
    line = calibrated(cells)
    by_sort: dict[str, list[float]] = defaultdict(list)
    for cell in cells:
        by_sort[cell.sort] += cell.missing
    groups: dict[str, Sequence[float]] = {
        "right recalls": [match for cell in cells for match in cell.right],
        "recalls that are not exact": [match for cell in cells for match in cell.wrong],
        **{f"misses: {sort}": matches for sort, matches in by_sort.items()},
    }
    tables = [distribution(groups)]
    asked = least if least is not None else line
    if asked is not None:
        tables = [*_shares(cells, asked), *tables]
    text = "\n".join(tables)
    if line is not None:
        text += f"\nA least match of {line!r} refuses at most 0.1 % of these right recalls"
        text += f"; the checkpoint asks for {least!r}.\n" if least is not None else ".\n"
    return text


def _shares(cells: Sequence[Cell], least: float) -> list[str]:
    def missing(here: Sequence[Cell]) -> str:
        matches = [match for cell in here for match in cell.missing]
        return percent(refused(matches, least), len(matches))

    def right(here: Sequence[Cell]) -> str:
        matches = [match for cell in here for match in cell.right]
        return percent(len(matches) - refused(matches, least), len(matches))

    return [
        _table("misses refused, by sort and prefix", cells, ("sort", "prefix"), missing),
        _table("misses refused, by kind and pool", cells, ("kind", "pool"), missing),
        _table("right recalls given, by kind and pool", cells, ("kind", "pool"), right),
    ]


def _table(
    title: str,
    cells: Sequence[Cell],
    axes: tuple[str, str],
    show: Callable[[Sequence[Cell]], str],
) -> str:
    groups: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[str(getattr(cell, axes[0])), _named(getattr(cell, axes[1]))].append(cell)
    columns = list(dict.fromkeys(column for _, column in groups))
    body = [
        [row, *(show(groups.get((row, column), [])) for column in columns)]
        for row in dict.fromkeys(row for row, _ in groups)
    ]
    return markdown([[title, *columns], *body])


def _named(value: int) -> str:
    return str(value) if value else "of a fact"
