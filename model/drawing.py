"""Drawings as files: one style, and the same bytes for the same figures. Needs Matplotlib."""

import io
from collections.abc import Callable
from typing import Any

from cycler import cycler
from matplotlib import style
from matplotlib.figure import Figure

# Colours that the colour-blind tell apart too (Okabe and Ito), on white in dark mode as well.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_STYLE: dict[str, Any] = {
    "axes.grid": True,
    "axes.prop_cycle": cycler(color=_COLOURS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "font.size": 9,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "legend.fontsize": "small",
    "lines.markersize": 3.5,
    "svg.fonttype": "path",
    "svg.hashsalt": "causalrn",
}


def svg(draw: Callable[[], Figure]) -> str:
    """A figure as SVG: the same text for the same figure.

    Args:
        draw: makes the figure.
    """
    text = io.StringIO()
    with style.context(_STYLE, after_reset=True):  # whatever the machine's own settings are
        draw().savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def png(draw: Callable[[], Figure]) -> bytes:
    """A figure as PNG; see `svg`."""
    found = io.BytesIO()
    with style.context(_STYLE, after_reset=True):
        draw().savefig(found, format="png", dpi=200, metadata={"Software": None})
    return found.getvalue()
