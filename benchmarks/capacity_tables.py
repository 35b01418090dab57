"""A table of the largest pools that the paper's relation can read, for the document about it."""

from collections.abc import Mapping
from typing import Any

from causalrn.model.tables import markdown

_SHOWN = (1.0, 0.25)  # spikes of which there are columns


def capacity(figures: Mapping[str, Any]) -> str:
    """The largest pools by width, heads and spike.

    Args:
        figures: as `benchmarks/capacity.py` publishes them.
    """
    most = figures["largest"]
    rows = [
        ["channels, heads", "e^√(d − 1)"]
        + [f"exact keys, s = {spike:g}: worst, random" for spike in _SHOWN]
        + ["keys off by a tenth, best s: worst", "random"]
    ]
    for row in figures["rows"]:
        exact = {one["spike"]: one for one in row["pools"] if one["error"] == 0}
        nearly = [one for one in row["pools"] if one["error"] > 0]
        cells = [f"{row['width']}, {row['heads']}", f"{row['bound']:,.0f}"]
        for spike in _SHOWN:
            one = exact[spike]
            cells.append(f"{_pool(one['worst'], most)}, {_pool(one['random'], most)}")
        for case in ("worst", "random"):
            best = max(nearly, key=lambda one: one[case])
            cells.append(f"{_pool(best[case], most)} (s = {best['spike']:g})")
        rows.append(cells)
    return markdown(rows)


def _pool(pool: int, most: int) -> str:
    """A pool; one that is as large as any that was tried may not be the largest."""
    return f"≥ {pool:,}" if pool == most else f"{pool:,}"
