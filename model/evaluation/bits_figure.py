"""A drawing of bits per byte by what was read before. Needs Matplotlib."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from causalrn.model.evaluation.bits import Cell


def draw(cells: Sequence[Cell]) -> Figure:
    """Bits per byte by what was read before, a line for each model."""
    figure = Figure(figsize=(6, 3.4))
    axes = figure.subplots()
    for name in dict.fromkeys(cell.model for cell in cells):
        own = [cell for cell in cells if cell.model == name]
        axes.plot([cell.end for cell in own], [cell.bits for cell in own], "o-", label=name)
    axes.set(xlabel="tokens read before, less than", ylabel="bits per byte", xscale="log")
    ends = sorted({cell.end for cell in cells})
    axes.set_xticks(ends, [f"{end:,}" for end in ends])
    axes.minorticks_off()
    figure.legend(loc="outside right upper")
    return figure
