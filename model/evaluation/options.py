"""Options that the evaluating commands share."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from causalrn.model.output_file import check_writable
from causalrn.model.terminal import fail


def _writable(ctx: typer.Context, file: Path | None) -> Path | None:
    if file is not None and not ctx.resilient_parsing:
        try:
            check_writable(file)
        except OSError as error:
            raise typer.BadParameter(f"{file}: {error.strerror}") from None
    return file


def plot_file(ctx: typer.Context, file: Path | None) -> Path | None:
    """Refuse a file that cannot be drawn to, before anything is measured."""
    if file is None or ctx.resilient_parsing:
        return file
    if file.suffix not in (".svg", ".png"):
        raise typer.BadParameter(f"{file}: must end in .svg or .png")
    if find_spec("matplotlib") is None:
        raise typer.BadParameter("drawing needs Matplotlib: pip install 'causalrn[figures]'")
    return _writable(ctx, file)


Output = Annotated[
    Path | None,
    typer.Option(
        help="Keep the results in this JSON file. A measurement that was stopped goes on from it.",
        metavar="FILE",
        callback=_writable,
    ),
]
Restart = Annotated[
    bool, typer.Option("--restart", help="Begin again, and replace what the output file holds.")
]
Seed = Annotated[int, typer.Option(help="Seed of all that is drawn at random.", min=0, metavar="N")]


def numbers(option: str, text: str, most: int) -> list[int]:
    """The numbers that an option lists, in order; ends the command if they are not in bounds."""
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        fail(f"{option} takes whole numbers with commas between, got {text!r}")
    if found[0] < 1 or found[-1] > most:
        fail(f"{option} must lie between 1 and {most} for this checkpoint")
    return found
