"""Takes the text for a command from an argument, a file or standard input."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from causalrn_client.cli.terminal import fail, say

Text = Annotated[
    str | None,
    typer.Argument(
        metavar="TEXT",
        help="The text; read from standard input if left out, or a hyphen.",
        show_default=False,
    ),
]
File = Annotated[
    Path | None,
    typer.Option(help="Read the text from this file.", metavar="FILE"),
]


def read_text(text: str | None, file: Path | None) -> str:
    """Return the text exactly as it was given. Ends the command if it is not UTF-8."""
    if text is not None and file is not None:
        fail("give a text or --file, not both")
    try:
        if file is not None:
            return file.read_bytes().decode()
        if text is not None and text != "-":
            return argument(text)
        if sys.stdin.isatty():
            say("Type the text, then Ctrl-D on a line of its own.")
        return sys.stdin.buffer.read().decode()
    except OSError as error:
        fail(error)
    except UnicodeError as error:
        fail(f"the text is not UTF-8: {error}")


def argument(text: str) -> str:
    """Return a command-line argument, which can contain any bytes, as a text.

    Raises:
        UnicodeError: The bytes are not UTF-8.
    """
    return text.encode(errors="surrogateescape").decode()


def read_lines(path: Path) -> Sequence[str]:
    """Return the lines of a file, or of standard input for a hyphen, without line ends."""
    text = read_text("-", None) if path == Path("-") else read_text(None, path)
    lines = text.split("\n")  # str.splitlines would split at a dozen other characters
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]
