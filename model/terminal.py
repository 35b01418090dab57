"""What the `causalrn` commands share: messages, progress, failing and being interrupted."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

# Results go to standard output, everything that is said about them to standard error.
_console = Console(stderr=True)


def say(message: str, style: str | None = None) -> None:
    """Print a message on one line of standard error; nothing in it is wrapped or read as markup."""
    _console.print(message, style=style, markup=False, highlight=False, soft_wrap=True)


def fail(error: Exception | str) -> NoReturn:
    """End the command with an error message and exit status 1."""
    say(f"error: {error}", style="red")
    raise typer.Exit(1)


def progress_bar(last_column: str) -> Progress:
    """A progress display. `last_column` is Rich markup, which may use fields of its tasks."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn(last_column),
        console=_console,
    )


@contextmanager
def postponed_interrupts() -> Iterator[Callable[[], int | None]]:
    """Only record SIGINT and SIGTERM, so that the body can come to an orderly end.

    Yields:
        A function that returns the signal that came, or None if none did. A second signal has its
        usual effect.
    """
    received: list[int] = []
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        received.append(number)
        restore()

    for number in former:
        signal.signal(number, handle)
    try:
        yield lambda: received[0] if received else None
    finally:
        restore()
