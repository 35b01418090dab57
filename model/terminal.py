"""What the `causalrn` commands share: how they speak, show progress, fail and are interrupted."""

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
    """Tell the user something, on a line of its own that is never broken or taken for markup."""
    _console.print(message, style=style, markup=False, highlight=False, soft_wrap=True)


def fail(error: Exception | str) -> NoReturn:
    """End the command with an error message and exit status 1."""
    say(f"error: {error}", style="red")
    raise typer.Exit(1)


def progress_bar(last_column: str) -> Progress:
    """A progress display; `last_column` is Rich markup that may name the task's fields."""
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
    """Let the body end in its own time when the user or the system asks it to.

    Yields:
        A function that says which signal, SIGINT or SIGTERM, has come; None as long as none has.
        A second one has its usual effect.
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
