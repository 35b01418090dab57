"""Figures of an experiment: training curves, accuracy by length and memory, the ablations."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import cycle
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from causalrn.model.ops.pairwise.form import ACTIVATIONS
from causalrn.model.reproduction.models import NORMALIZATIONS, ablation_name, find_model
from causalrn.model.reproduction.results import Result

_SHAPES = "os^vDPX*<>"
_STYLES = "-", "--", ":", "-."
_COLOURS = 6  # after which the next style begins
_MOST_CURVES = 12  # that one figure can hold
_LENGTHS = {"associative": "pairs", "copying": "letters", "selective": "symbols copied"}


class Case(NamedTuple):
    """What trainings with other learning rates have in common.

    Attributes:
        task, model, length, width: see `causalrn.model.reproduction.job.Job`.
    """

    task: str
    model: str
    length: int
    width: int


def best_of(results: Sequence[Result]) -> dict[Case, Result]:
    """Of each case, the result of the best learning rate."""
    found: dict[Case, Result] = {}
    for result in results:
        job = result.job
        case = Case(job.task, job.model, job.length, job.width)
        if case not in found or result.rank > found[case].rank:
            found[case] = result
    return found


def figures(results: Sequence[Result]) -> Iterator[tuple[str, str, Callable[[], Figure]]]:
    """The figures that results allow: a name, a sentence about it, and what draws it.

    Args:
        results: of one experiment.
    """
    best = best_of(results)
    for task in dict.fromkeys(case.task for case in best):
        own = {case: result for case, result in best.items() if case.task == task}
        for name, about, draw in _of_task(own):
            yield f"{task}-{name}", f"{task.capitalize()}: {about}", draw


def _of_task(best: Mapping[Case, Result]) -> Iterator[tuple[str, str, Callable[[], Figure]]]:
    widths = sorted({case.width for case in best})
    lengths = sorted({case.length for case in best})
    unit = _unit(next(iter(best)))
    for width in widths:
        of_width = f"-{width}" if len(widths) > 1 else ""
        for length in lengths:
            own = {c.model: r for c, r in best.items() if (c.length, c.width) == (length, width)}
            if 0 < len(own) <= _MOST_CURVES:
                about = f"right tokens in the batches of training; {length} {unit}, width {width}."
                yield f"curves-{length}{of_width}", about, partial(_curves, own)
            if grid := _grid(own):
                about = (
                    f"accuracy of the ablations, and after how many steps; {length} {unit}, width "
                    f"{width}."
                )
                yield f"ablations-{length}{of_width}", about, partial(_draw_grid, grid)
    if len(lengths) > 1:
        about = f"accuracy by the number of {unit}, at the greatest width."
        yield "lengths", about, partial(_by_length, best)
    if any(result.beyond for result in best.values()):
        about = f"accuracy of strings of other lengths than the {lengths[-1]} of training."
        yield "beyond", about, partial(_beyond, best)
    if len({case.width for case in best if case.length == lengths[-1]}) > 1:
        about = (
            f"accuracy by the bytes that a model has of a sequence at its end, at several widths, "
            f"with {lengths[-1]} {unit}."
        )
        yield "memory", about, partial(_by_memory, best)


def _unit(case: Case) -> str:
    return _LENGTHS.get(case.task, "tokens")


def _curves(results: Mapping[str, Result]) -> Figure:
    figure = Figure(figsize=(7, 3.6))
    axes = figure.subplots()
    styles = cycle([style for style in _STYLES for _ in range(_COLOURS)])
    for (model, result), line in zip(results.items(), styles, strict=False):
        steps, _, right = zip(*result.curve, strict=True) if result.curve else ((), (), ())
        axes.plot(steps, right, line, label=find_model(model).title)
    axes.set(xlabel="step", ylabel="share of right tokens", ylim=(0, 1.02), xscale="log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    figure.legend(loc="outside right upper")
    return figure


def _by_length(best: Mapping[Case, Result]) -> Figure:
    width = max(case.width for case in best)
    own = {case: result for case, result in best.items() if case.width == width}
    figure, axes = _lines({case: (case.length, r.hard) for case, r in own.items()})
    lengths = sorted({case.length for case in own})
    axes.set(xlabel=_unit(next(iter(own))), xscale="log")
    axes.set_xticks(lengths, [f"{length}" for length in lengths])
    axes.minorticks_off()
    return figure


def _by_memory(best: Mapping[Case, Result]) -> Figure:
    length = max(case.length for case in best)
    own = {case: result for case, result in best.items() if case.length == length}
    figure, axes = _lines({case: (r.job.memory(), r.hard) for case, r in own.items()})
    axes.set(xlabel="bytes of a sequence", xscale="log")
    return figure


def _beyond(best: Mapping[Case, Result]) -> Figure:
    figure = Figure(figsize=(7, 3.6))
    axes = figure.subplots()
    for (case, result), shape in zip(best.items(), cycle(_SHAPES), strict=False):
        lengths, hard, _ = zip(*result.beyond, strict=True) if result.beyond else ((), (), ())
        axes.plot(lengths, hard, marker=shape, label=find_model(case.model).title)
    axes.set(ylabel="accuracy", ylim=(-0.02, 1.02), xlabel="letters")
    axes.set_xscale("log", base=2)
    figure.legend(loc="outside right upper")
    return figure


def _lines(points: Mapping[Case, tuple[int, float]]) -> tuple[Figure, Axes]:
    """A line of accuracies for each model."""
    figure = Figure(figsize=(7, 3.6))
    axes = figure.subplots()
    for model, shape in zip(dict.fromkeys(c.model for c in points), cycle(_SHAPES), strict=False):
        own = sorted(point for case, point in points.items() if case.model == model)
        axes.plot(*zip(*own, strict=True), marker=shape, label=find_model(model).title)
    axes.set(ylabel="accuracy", ylim=(-0.02, 1.02))
    figure.legend(loc="outside right upper")
    return figure, axes


Grid = Mapping[bool, list[list[Result | None]]]


def _grid(results: Mapping[str, Result]) -> Grid:
    """Rows of normalizations and columns of activations, with and without a norm behind."""
    found = {
        bare: [
            [results.get(ablation_name(n, activation, bare=bare)) for activation in ACTIVATIONS]
            for n in NORMALIZATIONS
        ]
        for bare in (False, True)
    }
    return {
        bare: rows
        for bare, rows in found.items()
        if sum(x is not None for r in rows for x in r) > 1
    }


def _draw_grid(grid: Grid) -> Figure:
    figure = Figure(figsize=(9.5, 2.3 * len(grid)))
    rows_of_axes = np.atleast_1d(figure.subplots(len(grid), 1))
    for axes, (bare, rows) in zip(rows_of_axes, grid.items(), strict=True):
        axes.set_title(f"{'without a' if bare else 'with a'} norm behind the relation")
        _draw_cells(axes, rows)
    return figure


def _draw_cells(axes: Axes, rows: list[list[Result | None]]) -> None:
    shares = np.array([[np.nan if x is None else x.hard for x in row] for row in rows])
    axes.imshow(shares, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(ACTIVATIONS)), ACTIVATIONS)
    axes.set_yticks(range(len(NORMALIZATIONS)), NORMALIZATIONS)
    axes.grid(visible=False)
    for i, row in enumerate(rows):
        for j, result in enumerate(row):
            if result is not None:
                ink = "black" if result.hard > 0.6 else "white"
                axes.text(j, i, cell(result), ha="center", va="center", color=ink)


def cell(result: Result) -> str:
    """A result in few words."""
    if result.outcome.startswith("diverged"):
        return f"diverged at {result.step:,}"
    after = f"after {result.step:,}" if result.outcome == "learned" else "at the end"
    return f"{math.floor(100 * result.hard)} % {after}"  # 100 means all
