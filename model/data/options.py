"""Options of commands that read texts."""

from typing import Annotated

import typer

HELD_OUT = 0.05
"""Share of the documents that is not trained on by default."""

Field = Annotated[
    str, typer.Option(help="Where the text is in the objects of JSON lines.", metavar="NAME")
]
Separator = Annotated[
    str | None,
    typer.Option(
        help="The line that separates documents in a text, such as '<|endoftext|>', or '' for "
        "blank lines; by default, each file is a document.",
        metavar="LINE",
    ),
]
