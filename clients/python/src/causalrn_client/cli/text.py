"""Takes the text for a command from an argument, a file or standard input."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from causalrn_client.cli.terminal import fail, say

if TYPE_CHECKING:
    from causalrn_client import Chunk, Generation

_N_BYTES = 256  # the ids from here on are special

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


Prompt = str | list[int]
"""A text, or bytes that are not UTF-8. A model of bytes takes these as token ids."""


def read_text(text: str | None, file: Path | None) -> str:
    """Return the text exactly as it was given. Ends the command if it is not UTF-8."""
    try:
        return _read(text, file).decode()
    except UnicodeError as error:
        fail(f"the text is not UTF-8: {error}")


def read_prompt(text: str | None, file: Path | None) -> Prompt:
    """Return what was given, whatever its bytes."""
    return _prompt(_read(text, file))


def read_prompts(path: Path) -> list[Prompt]:
    """Return the lines of a file, or of standard input for a hyphen, without line ends."""
    return [_prompt(line) for line in read_lines(path)]


def read_lines(path: Path) -> list[bytes]:
    """Return the lines of a file, or of standard input for a hyphen, without line ends."""
    data = _read("-", None) if path == Path("-") else _read(None, path)
    lines = data.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    return [line.removesuffix(b"\r") for line in lines]


def ids(prompt: Prompt) -> list[int] | None:
    """Return a prompt's token ids, if these are to be sent."""
    return None if isinstance(prompt, str) else prompt


def answer(part: "Chunk | Generation", *, as_bytes: bool) -> str:
    """Return what a server wrote; as bytes, with surrogates for those that are no text."""
    if not as_bytes:
        return part.text
    return bytes(id for id in part.token_ids if id < _N_BYTES).decode(errors="surrogateescape")


def _prompt(data: bytes) -> Prompt:
    try:
        return data.decode()
    except UnicodeError:
        return list(data)


def _read(text: str | None, file: Path | None) -> bytes:
    if text is not None and file is not None:
        fail("give a text or --file, not both")
    try:
        if file is not None:
            return file.read_bytes()
        if text is not None and text != "-":
            return text.encode(errors="surrogateescape")
        if sys.stdin.isatty():
            say("Type the text, then Ctrl-D on a line of its own.")
        return sys.stdin.buffer.read()
    except OSError as error:
        fail(error)


def argument(text: str) -> str:
    """Return a command-line argument, which can contain any bytes, as a text.

    Raises:
        UnicodeError: The bytes are not UTF-8.
    """
    return text.encode(errors="surrogateescape").decode()
