"""How the commands speak, fail and show progress."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn, Self

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as RichProgress

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


def write_line(text: str) -> None:
    """Write a line of a result; on a terminal, above what is displayed there."""
    if sys.stdout.isatty():
        sys.stdout.write(f"{text}\n")
    else:
        write(f"{text}\n")


def write_stream(texts: Iterable[str]) -> None:
    """Write the pieces of a text as they come, and begin a new line for the shell after them."""
    last = ""
    for text in texts:
        write(text)
        last = text or last
    if _on_terminal() and not last.endswith("\n"):
        write("\n")


def check_ended(finish_reason: str) -> None:
    """End the command with an error if a generation did not come to an end of its own."""
    if finish_reason not in {"stop", "length"}:
        fail(f"the server ended the generation ({finish_reason})")


def _on_terminal() -> bool:
    return sys.stdout.isatty()


class Tally:
    """How many of many requests are done, shown on a terminal while they are made.

    A context manager.

    Attributes:
        done: Requests that are done.
        failed: Those of them that failed.
    """

    def __init__(self, total: int) -> None:
        self.done = self.failed = 0
        self._tokens = 0
        self._bar = RichProgress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[failed]} failed", style="red"),
            TextColumn("{task.fields[speed]:,.0f} tokens/s"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=_console,
            disable=not _console.is_terminal,
            redirect_stdout=sys.stdout.isatty(),  # what goes into a file must not come up here
        )
        self._task = self._bar.add_task("", total=total, failed=0, speed=0.0)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def add(self, *, tokens: int, failed: bool) -> None:
        """Count one more."""
        self.done += 1
        self.failed += failed
        self._tokens += tokens
        seconds = self._bar.tasks[self._task].elapsed
        self._bar.update(
            self._task,
            completed=self.done,
            failed=self.failed,
            speed=self._tokens / seconds if seconds else 0.0,
        )


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
    with RichProgress(*columns, console=_console, disable=not _console.is_terminal) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
