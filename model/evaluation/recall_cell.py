"""The results of recall, and the tables that show them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from causalrn.model.evaluation.queries import PLACES, Place
from causalrn.model.tables import markdown, percent


@dataclass(frozen=True)
class Cell:
    """One kind of text at one length of the pool and of the prefix.

    Attributes:
        kind: key of `causalrn.model.evaluation.passages.materials_of`.
        pool: tokens that sessions hold when they are asked; they may hold up to 50 fewer.
        prefix: tokens of a passage that are given.
        place: where in the passage these stand.
        different: tokens of the different passages that the first session has read. The others of
            its pool are copies, passages that are read again, and special ids.
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
    place: Place
    different: int
    n_queries: int
    exact: int
    n_certain: int
    exact_certain: int
    n_tokens: int
    tokens_right: int

    @property
    def key(self) -> tuple[str, int, int, str]:
        """Which cell of the measurement it is."""
        return self.kind, self.pool, self.prefix, self.place


def markdown_tables(cells: Sequence[Cell]) -> str:
    """Markdown tables in per cent, rounded down; a cell without queries stays empty.

    They show exact recalls by pool and prefix, from the beginning and from the middle of passages,
    and by kind and pool; exact recalls among those that are certain, and how many are certain; the
    share of tokens before the first fault; and of how many tokens the pool's text consists.
    """
    exact, certain = ("exact", "n_queries"), ("exact_certain", "n_certain")
    places = [
        _table(
            f"exact from the {place}, by pool and prefix",
            [cell for cell in cells if cell.place == place],
            ("pool", "prefix"),
            exact,
        )
        for place in PLACES
    ]
    tables = (
        *places,
        _table("exact, by kind and pool", cells, ("kind", "pool"), exact),
        _table("exact where the last tokens say enough", cells, ("kind", "pool"), certain),
        _table("where they do", cells, ("kind", "pool"), ("n_certain", "n_queries")),
        _table("tokens before a fault", cells, ("kind", "pool"), ("tokens_right", "n_tokens")),
        _different(cells),
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


def _different(cells: Sequence[Cell]) -> str:
    """How many tokens of text a session has read that are not a repetition."""
    pools = list(dict.fromkeys(cell.pool for cell in cells))
    tokens = {(cell.kind, cell.pool): str(cell.different) for cell in cells}
    body = [
        [kind, *(tokens.get((kind, pool), "") for pool in pools)]
        for kind in dict.fromkeys(cell.kind for cell in cells)
    ]
    return markdown([["tokens of different text", *map(str, pools)], *body])
