"""`causalrn export`."""

from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from causalrn.model.arguments import CheckpointName, load
from causalrn.model.terminal import fail, say

commands = typer.Typer()


class Target(StrEnum):
    """What an export is for."""

    huggingface = "huggingface"


@commands.command()
def export(
    checkpoint: CheckpointName,
    target: Annotated[
        Target, typer.Option("--format", help="What the export is for.")
    ] = Target.huggingface,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder to write; by default, exports/NAME.", metavar="FOLDER"),
    ] = None,
) -> None:
    """Write a checkpoint as a folder that `transformers` loads and generates with.

    The folder holds the weights, the tokenizer with the same ids, and the code that the model
    needs, in plain torch. Its README.md shows how it is loaded.
    """
    if find_spec("tokenizers") is None:
        fail("an export needs tokenizers: pip install 'causalrn[tokenizers]'")
    from causalrn.model.export.huggingface.exporting import ExportError
    from causalrn.model.export.huggingface.exporting import export as write

    loaded = load(checkpoint)
    folder = output if output is not None else Path("exports") / loaded.name
    try:
        write(loaded, folder)
    except ExportError as error:
        fail(error)
    except OSError as error:
        fail(f"{folder}: {error.strerror}")
    say(f"{loaded.name} is in {folder}, for {target.value}; README.md there shows how to load it.")
