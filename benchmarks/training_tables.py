"""The table of `benchmarks.training`: how exact a model was, after how many seconds."""

from collections.abc import Mapping
from typing import Any

from causalrn.model.tables import markdown


def starts(results: Mapping[str, Any]) -> str:
    """What each start came to, mark by mark.

    Args:
        results: as `benchmarks/training.py` publishes them.
    """
    lengths = [str(length) for length in results["lengths"]]
    rows = [["start", "steps", "seconds", *(f"copies of {n}" for n in lengths), "recalls"]]
    for title, marks in results["starts"].items():
        for mark in marks:
            exact = [_of(mark["copies"][length]) for length in lengths]
            seconds = f"{mark['seconds']:.0f}"
            rows.append([title, str(mark["step"]), seconds, *exact, _of(mark["recalls"])])
            title = ""
    return markdown(rows)


def _of(counts: tuple[int, int] | None) -> str:
    return f"{counts[0]} of {counts[1]}" if counts else ""
