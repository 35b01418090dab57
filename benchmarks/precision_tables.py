"""Tables of what 16 bits do to the paper's model, for the document about the paper."""

from collections.abc import Mapping
from typing import Any

from causalrn.model.tables import markdown, percent


def training(figures: Mapping[str, Any]) -> str:
    """What each rounding does to a training.

    Args:
        figures: as `benchmarks/precision.py` publishes them.
    """
    rows = [["rounded", "to", "outcome", "steps", "strings copied", "right tokens"]]
    n = figures["served"][0]["strings"]
    rows += [
        [
            one["where"], one["dtype"], one["outcome"], f"{one['step']:,}",
            f"{one['exact']} of {n}", f"{_share(one['right'])} %",
        ]
        for one in figures["trained"]
    ]  # fmt: skip
    return markdown(rows)


def serving(figures: Mapping[str, Any]) -> str:
    """What each rounding does to models that were trained without."""
    served = figures["served"]
    heads = [f"{one['model']}, {one['length']} tokens" for one in served]
    rows = [["rounded", "to", *heads]]
    for cells in zip(*(one["rows"] for one in served), strict=True):
        shown = [
            f"{cell['exact']} of {one['strings']}, {_share(cell['right'])} %"
            for cell, one in zip(cells, served, strict=True)
        ]
        rows.append([cells[0]["where"], cells[0]["dtype"], *shown])
    return markdown(rows)


def _share(share: float) -> str:
    return percent(int(share * 1e6), 1_000_000)
