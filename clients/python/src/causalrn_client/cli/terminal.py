"""How the commands print, fail and show progress."""

import re
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
    from causalrn_client import Generation
    from causalrn_client.upload import Progress as Report

# Results go to standard output; everything else goes to standard error.
_console = Console(stderr=True)


def say(message: str, style: str | None = None) -> None:
    """Tell the user something on one line, which is not wrapped and not read as markup."""
    line = " ".join(message.split())
    _console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


def fail(error: Exception | str) -> NoReturn:
    """End the command with an error message and the exit status 1."""
    say(f"error: {error}", style="red")
    raise typer.Exit(1)


# A terminal obeys control characters, and lets some others reorder or hide what is around them.
# Lone surrogates are bytes that are not UTF-8.
_UNSEEN = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\udc80-\udcff]"
)
_SURROGATE = 0xDC00  # what is added to such a byte


def write(text: str) -> None:
    """Print a piece of a result at once and unchanged, in UTF-8."""
    sys.stdout.buffer.write(text.encode(errors="surrogateescape"))
    sys.stdout.buffer.flush()


def write_line(text: str) -> None:
    """Print a line of a result; on a terminal, above the progress display."""
    if sys.stdout.isatty():
        sys.stdout.write(f"{_shown(text)}\n")
    else:
        write(f"{text}\n")


def write_stream(texts: Iterable[str], *, raw: bool = False) -> None:
    """Print the pieces of a text as they come.

    On a terminal, escapes stand in for control characters, and a line break ends the text.

    Args:
        texts: The pieces.
        raw: Print them unchanged, on a terminal too.
    """
    if raw or not _on_terminal():
        for text in texts:
            write(text)
        return
    last = "\n"
    for text in texts:
        write(_shown(text))
        last = text or last
    if not last.endswith("\n"):
        write("\n")


def _shown(text: str) -> str:
    return _UNSEEN.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    if found[0] >= "\udc80":
        return f"\\x{ord(found[0]) - _SURROGATE:02x}"
    return found[0].encode("unicode_escape").decode()


CUT_OFF = 3
"""The exit status if an answer was cut off, though nobody asked for that."""

NOT_FOUND = 4
"""The exit status if nothing was found, and there is no answer."""

WRONG = 5
"""The exit status if the answer is not what it should be."""


def check_answer(
    answer: "Generation", *, mode: str | None, max_tokens: int | None, temperature: float | None
) -> None:
    """End the command with a message unless there is an answer, all of it, and nothing is wrong.

    Args:
        answer: The answer, which has been printed.
        mode: What the server was asked for.
        max_tokens: The same; an answer may end there.
        temperature: The same; what is drawn at random may be anything.
    """
    if answer.finish_reason not in {"stop", "length", "not_found"}:
        fail(f"the server ended the generation ({answer.finish_reason})")
    if answer.finish_reason == "not_found":
        say(
            "nothing found: the session has not read this, or the model does not find it; "
            "--allow-partial prints the nearest that there is",
            style="yellow",
        )
        raise typer.Exit(NOT_FOUND)
    if is_wrong(answer, temperature):
        say(
            "warning: the answer is wrong: it is not the text, or not what the session has read",
            style="yellow",
        )
        raise typer.Exit(WRONG)
    if answer.finish_reason == "length" and max_tokens is None and mode != "raw":
        say(
            f"warning: the answer is cut off after {answer.usage.completion_tokens:,} tokens; "
            "--max-tokens allows for more",
            style="yellow",
        )
        raise typer.Exit(CUT_OFF)


def is_wrong(answer: "Generation", temperature: float | None) -> bool:
    """Whether an answer is not what it should be. What was drawn at random may be anything."""
    return answer.verified is False and not temperature


def _on_terminal() -> bool:
    return sys.stdout.isatty()


class Tally:
    """Counts requests, and shows on a terminal how many are done. Use it in a `with` block.

    Attributes:
        done: How many requests are done.
        failed: How many of these failed.
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
            redirect_stdout=sys.stdout.isatty(),  # results that go to a file must not appear here
        )
        self._task = self._bar.add_task("", total=total, failed=0, speed=0.0)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def add(self, *, tokens: int, failed: bool) -> None:
        """Count a request, and the tokens of its result."""
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
    """Show the progress of a transfer on a terminal.

    Yields:
        A function to call with that progress; see `Report`.
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
