"""Figures of an experiment: training curves, accuracy by length, and the grid of ablations."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from model.ops.pairwise.form import ACTIVATIONS
from model.reproduction.models import NORMALIZATIONS, ablation_name, find_model
from model.reproduction.results import Result

_SHAPES = "os^vDPX*<>"
_STYLES = "-", "--", ":", "-."
_MOST_CURVES = 12  # that one figure can hold


def best_of(results: Sequence[Result]) -> dict[tuple[str, int], Result]:
    """Of each model and length, the result of the best learning rate."""
    found: dict[tuple[str, int], Result] = {}
    for result in results:
        key = result.job.model, result.job.length
        if key not in found or result.rank > found[key].rank:
            found[key] = result
    return found


def figures(results: Sequence[Result]) -> Iterator[tuple[str, str, Callable[[], Figure]]]:
    """The figures that results allow: a name, a sentence about it, and what draws it.

    Args:
        results: of one experiment.
    """
    best = best_of(results)
    lengths = sorted({length for _, length in best})
    for length in lengths:
        of_length = {model: result for (model, n), result in best.items() if n == length}
        if 0 < len(of_length) <= _MOST_CURVES:
            about = f"Right tokens in the batches of training, for strings of {length} letters."
            yield f"curves-{length}", about, partial(_curves, of_length)
        if grid := _grid(of_length):
            about = (
                f"The ablations for strings of {length} letters: accuracy of strings that the "
                "model writes by itself, and after how many steps."
            )
            yield f"ablations-{length}", about, partial(_draw_grid, grid)
    if len(lengths) > 1:
        about = "Accuracy of strings that the model writes by itself, by their length."
        yield "lengths", about, partial(_by_length, best)


def _curves(results: Mapping[str, Result]) -> Figure:
    figure = Figure(figsize=(7, 3.6))
    axes = figure.subplots()
    for (model, result), line in zip(
        results.items(), cycle([s for s in _STYLES for _ in range(6)]), strict=False
    ):
        steps, _, right = zip(*result.curve, strict=True) if result.curve else ((), (), ())
        axes.plot(steps, right, line, label=find_model(model).title)
    axes.set(xlabel="step", ylabel="share of right tokens", ylim=(0, 1.02), xscale="log")
    figure.legend(loc="outside right upper")
    return figure


def _by_length(best: Mapping[tuple[str, int], Result]) -> Figure:
    figure = Figure(figsize=(7, 3.6))
    axes = figure.subplots()
    for model, shape in zip(dict.fromkeys(m for m, _ in best), cycle(_SHAPES), strict=False):
        points = sorted((n, result.hard) for (m, n), result in best.items() if m == model)
        axes.plot(*zip(*points, strict=True), marker=shape, label=find_model(model).title)
    lengths = sorted({length for _, length in best})
    axes.set(xlabel="letters", ylabel="accuracy", ylim=(0, 1.02), xscale="log")
    axes.set_xticks(lengths, [f"{length}" for length in lengths])
    axes.minorticks_off()
    figure.legend(loc="outside right upper")
    return figure


Grid = Mapping[bool, list[list[Result | None]]]


def _grid(results: Mapping[str, Result]) -> Grid:
    """Rows of normalizations and columns of activations, without and with a norm behind."""
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
    return f"{100 * result.hard:.0f} % {after}"
