"""How many times as fast as its peers this project is meant to be."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

IN_PROCESS: dict[tuple[str, str], dict[int, float]] = {
    ("dense", "transformers"): {1: 8.0, 32: 4.0},
    ("dense", "llama.cpp"): {1: 1.8, 8: 1.8, 32: 1.8},
    ("keyed", "llama.cpp"): {8: 4.0, 32: 4.0},
}
"""By model and peer: at least so many times as fast, by batch."""

OVER_HTTP = {"transformers serve": 5.0, "llama-server": 1.5}
"""By peer: at least so many times as fast."""


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """How many times as fast ours was, in rounds: the median, the least and the largest."""
    found = [one / other for one, other in zip(ours, theirs, strict=True)]
    return {"median": median(found), "least": min(found), "largest": max(found)}


def show(ratio: Mapping[str, float], aim: float | None) -> str:
    """A ratio for people, with its range, and with what it is meant to be."""
    shown = f"{ratio['median']:.2f} ({ratio['least']:.2f} to {ratio['largest']:.2f})"
    return shown if aim is None else f"{shown}, aim {aim:g}"
