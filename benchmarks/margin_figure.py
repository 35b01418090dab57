"""The figure of margins: lines are derived, points are measured."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

Curve = Mapping[str, Any]


def draw(results: Mapping[str, Any]) -> Figure:
    """Margins of copies by pool, for layers that differ in one thing, and of recall by tokens.

    Args:
        results: as `benchmarks/margin.py` publishes them.
    """
    figure = Figure(figsize=(9, 7.5))
    width, spike, temperature, recall = figure.subplots(2, 2).flat
    panels: dict[str, list[Curve]] = {}
    for curve in results["copies"]:
        for panel in curve["panels"]:
            panels.setdefault(panel, []).append(curve)
    _copies(width, panels["width"], "width", _channels, (_spike, _temperature))
    _copies(spike, panels["spike"], "spike", _spike, (_channels, _temperature))
    _copies(temperature, panels["temperature"], "temperature", _temperature, (_channels, _spike))
    _recall(recall, results["recall"])
    measured = f"measured, worst of {results['readers']} readers"
    kinds = [
        Line2D([], [], color="black", label="derived"),
        Line2D([], [], color="black", label=measured, marker="o", linestyle=""),
    ]
    figure.legend(handles=kinds, loc="outside upper right", ncols=2)
    return figure


def _channels(curve: Curve) -> str:
    return f"{curve['d_key']} + {curve['d_value']} channels"


def _spike(curve: Curve) -> str:
    return f"s = {curve['spike']:g}"


def _temperature(curve: Curve) -> str:
    return f"τ = {curve['temperature']:,.0f}"


def _copies(
    axes: Axes,
    curves: Sequence[Curve],
    by: str,
    label: Callable[[Curve], str],
    common: Sequence[Callable[[Curve], str]],
) -> None:
    """The margins of layers by pool; `label` is what they differ in, `common` what they share."""
    axes.set_title(f"Copies, by {by}: " + ", ".join(name(curves[0]) for name in common))
    axes.set_xscale("log", base=2)
    axes.set_xlabel("other memories n, tokens")
    _plot(axes, curves, "pools", label)


def _recall(axes: Axes, curves: Sequence[Curve]) -> None:
    one = curves[0]
    axes.set_title(
        f"Recall: {_channels(one)}, {_spike(one)}, g = {one['decay']:g}, n = {one['pool']:,}"
    )
    axes.set_yscale("symlog", linthresh=10)
    axes.set_xlabel("last tokens that the others share with the reader, j")
    _plot(axes, curves, "shared", lambda curve: f"{_temperature(curve)}, λ = {curve['recency']:g}")


def _plot(axes: Axes, curves: Sequence[Curve], x: str, label: Callable[[Curve], str]) -> None:
    """Margins over `x`, the highest first, and the border below which a match is lost."""
    for curve in sorted(curves, key=lambda one: -one["derived"][0]):
        (line,) = axes.plot(curve[x], curve["derived"], label=label(curve))
        axes.plot(curve[x], curve["measured"], "o", color=line.get_color())
    axes.axhline(0, color="black", linewidth=1)
    axes.text(0.01, 0, "lost below", transform=axes.get_yaxis_transform(), va="top")
    axes.set_ylabel("margin of the match, nats")
    axes.legend(loc="upper right")
