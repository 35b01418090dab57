"""How the commands speak, fail and show progress."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

if TYPE_CHECKING:
    from causalrn_client.upload import Progress as Report

# Results go to standard output, everything that is said about them to standard error.
_console = Console(stderr=True)


def say(message: str, style: str | None = None) -> None:
    """Tell the user something, on one line that is never broken or taken for markup."""
    line = " ".join(message.split())
    _console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


def fail(error: Exception | str) -> NoReturn:
    """End the command with an error message and exit status 1."""
    say(f"error: {error}", style="red")
    raise typer.Exit(1)


def write(text: str) -> None:
    """Write a piece of a result at once, in UTF-8 and as it is."""
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()


@contextmanager
def transfer_bar(description: str) -> Iterator["Report"]:
    """Show on a terminal how far a transfer is.

    Yields:
        What is to be told of it: see `Report`.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_console, disable=not _console.is_terminal) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
