"""The figure of starts: how exact a model was, by the seconds of its training."""

from collections.abc import Callable, Mapping
from itertools import cycle
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

Mark = Mapping[str, Any]
_SHAPES = "os^vDPX*<>"


def draw(results: Mapping[str, Any]) -> Figure:
    """Copies of the least and the greatest length, and recalls, that were exact.

    Args:
        results: as `benchmarks/training.py` publishes them.
    """
    figure = Figure(figsize=(10, 4.8))
    shortest, longest = str(results["lengths"][0]), str(results["lengths"][-1])
    panels: dict[str, Callable[[Mark], tuple[int, int] | None]] = {
        f"Copies of {shortest} bytes": lambda mark: mark["copies"][shortest],
        f"Copies of {longest} bytes": lambda mark: mark["copies"][longest],
        f"Recalls in pools of {results['pool']:,}": lambda mark: mark["recalls"],
    }
    every_axes = figure.subplots(1, len(panels), sharey=True)
    for axes, (title, counts) in zip(every_axes, panels.items(), strict=True):
        axes.set_title(title)
        axes.set_xscale("log")
        axes.set_xlabel(f"seconds of training (threads: {results['threads']})")
        _plot(axes, results["starts"], counts)
    every_axes[0].set_ylabel("exact, per cent")
    handles, labels = every_axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def _plot(
    axes: Axes, starts: Mapping[str, list[Mark]], counts: Callable[[Mark], tuple[int, int] | None]
) -> None:
    for (title, marks), shape in zip(starts.items(), cycle(_SHAPES), strict=False):
        counted = [(mark["seconds"], count) for mark in marks if (count := counts(mark))]
        seconds, shares = [s for s, _ in counted], [100 * exact / n for _, (exact, n) in counted]
        axes.plot(seconds, shares, marker=shape, label=title)
