"""What the drawings in the documents have in common: where they lie, their style, their bytes.

The drawing of the results NAME is what the function `draw` of `benchmarks/NAME_figure.py` makes of
them.
"""

import io
from importlib import import_module
from pathlib import Path
from typing import Any

from cycler import cycler
from matplotlib import style
from matplotlib.figure import Figure

from benchmarks.figures import read_results

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "figures"

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


def file_of(name: str) -> Path:
    """Where the drawing of results lies."""
    return FOLDER / f"{name}.svg"


def draw_svg(name: str) -> str:
    """The drawing of results as SVG: the same text for the same results.

    Args:
        name: of the results, and of the drawing.
    """
    draw = import_module(f"benchmarks.{name}_figure").draw
    with style.context(_STYLE, after_reset=True):  # whatever the machine's own settings are
        return _svg(draw(read_results(name)))


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"
