"""Runs a measurement for a command: progress, tables, results as JSON, and interrupts."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from model.evaluation.errors import EvaluationError
from model.output_file import write_json
from model.terminal import fail, progress_bar

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint

_Result = TypeVar("_Result")


def measure(
    checkpoint: "Checkpoint",
    work: tuple[str, int],
    evaluate: Callable[[Callable[[int], None]], Iterator[_Result]],
    show: Callable[[list[_Result]], str],
    values: Callable[[list[_Result]], dict[str, Any]],
    output: Path | None,
) -> None:
    """Measure behind a progress display, then write the file and print the tables.

    On an interrupt, the results so far are printed, and no file is written. A file that cannot be
    written ends the command with an error, below the tables.

    Args:
        checkpoint: the model.
        work: what the progress display counts, and how much of it there is.
        evaluate: makes the results one by one; reports to its argument how much work was done.
        show: turns the results, at least one, into text.
        values: turns the results, with what they depend on, into JSON-ready values.
        output: file to write these to; None for none.
    """
    results: list[_Result] = []
    problem: EvaluationError | OSError | None = None
    interrupted = False
    began = time.monotonic()
    progress = progress_bar(work[0])
    task = progress.add_task(checkpoint.name, total=work[1])
    try:
        measured = evaluate(lambda n: progress.advance(task, n))
    except EvaluationError as error:
        fail(error)
    with progress:
        try:
            for result in measured:
                results.append(result)  # noqa: PERF402 — one by one, so that an interrupt keeps them
        except EvaluationError as error:
            problem = error  # told below the display, once that is closed
        except KeyboardInterrupt:
            interrupted = True
    if output is not None and problem is None and not interrupted:
        known = {
            "checkpoint": checkpoint.name,
            "fingerprint": checkpoint.fingerprint,
            "seconds": round(time.monotonic() - began, 1),
        }
        try:  # before the tables, whose reader may have left
            write_json(output, known | values(results))
        except OSError as error:
            problem = error
    if results:
        typer.echo(show(results), nl=False)
    if problem is not None:
        fail(problem)
    if interrupted:
        raise KeyboardInterrupt
