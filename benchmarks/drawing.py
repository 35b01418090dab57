"""The drawings in the documents, and where they lie.

The drawing of the results NAME is what the function `draw` of `benchmarks/NAME_figure.py` makes of
them.
"""

from importlib import import_module
from pathlib import Path

from benchmarks.figures import read_results
from causalrn.model.drawing import svg

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "figures"


def file_of(name: str) -> Path:
    """Where the drawing of results lies."""
    return FOLDER / f"{name}.svg"


def draw_svg(name: str) -> str:
    """The drawing of results as SVG: the same text for the same results.

    Args:
        name: of the results, and of the drawing.
    """
    draw = import_module(f"benchmarks.{name}_figure").draw
    return svg(lambda: draw(read_results(name)))
