"""Runs a measurement for a command: progress, tables, results in a file, and interrupts."""

import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

import typer
from pydantic import TypeAdapter, ValidationError

from causalrn.model.evaluation.errors import EvaluationError
from causalrn.model.evaluation.results_file import ResultsFile
from causalrn.model.progress import Watch
from causalrn.model.terminal import fail, say

if TYPE_CHECKING:
    from causalrn.model.checkpoint import Checkpoint

Advance = Callable[[float], object]
"""Is told how much work was done."""


class Result(Protocol):
    """What a measurement finds out."""

    @property
    def key(self) -> Hashable:
        """Which of the results of its measurement it is."""


_Result = TypeVar("_Result", bound=Result)


@dataclass(frozen=True)
class Part(Generic[_Result]):
    """What is measured in one go; its results are kept together, or not at all.

    Attributes:
        name: what people read while it is measured.
        keys: of its results, in order.
        work: about how long it takes, in a unit of its measurement.
        measure: makes the results; what it reports adds up to `work`.
    """

    name: str
    keys: Sequence[Hashable]
    work: float
    measure: Callable[[Advance], Sequence[_Result]]


@dataclass(frozen=True)
class Measurement(Generic[_Result]):
    """What a command measures.

    Attributes:
        settings: what the results depend on besides the model, JSON-ready.
        cells: reads and writes the results as JSON-ready values.
        parts: in the order in which they are measured.
        show: turns results, at least one, into the text of the tables.
        summarize: turns results into further values for the file, JSON-ready.
    """

    settings: dict[str, Any]
    cells: TypeAdapter[list[_Result]]
    parts: Sequence[Part[_Result]]
    show: Callable[[Sequence[_Result]], str]
    summarize: Callable[[Sequence[_Result]], dict[str, Any]] = field(default=lambda _: {})

    def knowing(self, settings: dict[str, Any]) -> Self:
        """The same measurement, of a model that was changed as these settings say."""
        return replace(self, settings=self.settings | settings)


def measure(
    checkpoint: "Checkpoint",
    measurement: Measurement[_Result],
    output: Path | None,
    *,
    restart: bool,
) -> Sequence[_Result]:
    """Measure what is missing behind a progress display, and print the tables.

    On an interrupt or an error, the results so far are printed, and stay in the file.

    Args:
        checkpoint: the model.
        measurement: of this model.
        output: file to keep results in, and to go on from; None for none.
        restart: whether to leave aside what it holds.

    Returns:
        All results.
    """
    known = {"checkpoint": checkpoint.name, "fingerprint": checkpoint.fingerprint}
    if checkpoint.decoder.pool_dtype != "float32":
        known["pool_dtype"] = checkpoint.decoder.pool_dtype
    problem: EvaluationError | OSError | None = None
    interrupted = False
    with ExitStack() as stack:
        try:
            file = None
            if output is not None:
                file = stack.enter_context(ResultsFile(output, known | measurement.settings))
            kept = _Kept(measurement, file, restart=restart)
        except (EvaluationError, OSError) as error:
            fail(error)
        if output is not None and (n_parts := sum(map(kept.has, measurement.parts))):
            say(f"{n_parts} of {len(measurement.parts)} parts are in {output} already.")
        try:
            _run(checkpoint.name, measurement.parts, kept)
        except (EvaluationError, OSError) as error:
            problem = error  # told below the tables
        except KeyboardInterrupt:
            interrupted = True
    if results := kept.results():
        typer.echo(measurement.show(results), nl=False)
    if problem is not None:
        fail(problem)
    if interrupted:
        if output is not None:
            say(f"The results so far are in {output}. The same command goes on from there.")
        raise KeyboardInterrupt
    return results


def _run(name: str, parts: Sequence[Part[_Result]], kept: "_Kept[_Result]") -> None:
    missing = [part for part in parts if not kept.has(part)]
    if not missing:
        return
    total = sum(part.work for part in parts)
    with Watch(name, total, total - sum(part.work for part in missing)) as watch:
        for part in missing:
            watch.begin(part.name)
            kept.add(part.measure(watch.advance))


class _Kept(Generic[_Result]):
    """The results of a measurement, each of them once, in memory and in the file if there is one.

    Raises:
        EvaluationError: the file holds something else.
        OSError: the file cannot be read or written.
    """

    def __init__(
        self, measurement: Measurement[_Result], file: ResultsFile | None, *, restart: bool
    ) -> None:
        self._measurement, self._file = measurement, file
        self._keys = [key for part in measurement.parts for key in part.keys]
        self._found: dict[Hashable, _Result] = {}
        self._began = time.monotonic()
        if file is None:
            return
        cells, seconds = ([], 0.0) if restart else file.read()
        try:
            found = measurement.cells.validate_python(cells)
        except ValidationError:
            raise file.other("no results of this command") from None
        self._began = time.monotonic() - seconds  # reading them was no part of measuring
        # Written even so: it must be possible, and what sums the results up may have changed.
        self.add(found)

    def has(self, part: Part[_Result]) -> bool:
        """Whether the results of a part are there."""
        return self._found.keys() >= set(part.keys)

    def results(self) -> list[_Result]:
        """All results that are there, in the order in which they are measured."""
        return [self._found[key] for key in self._keys if key in self._found]

    def add(self, results: Sequence[_Result]) -> None:
        """Take in results, and write the file.

        Raises:
            OSError: the file cannot be written.
        """
        seconds = time.monotonic() - self._began
        self._found |= {result.key: result for result in results}
        if self._file is None:
            return
        results = self.results()
        values = self._measurement.summarize(results) if results else {}
        values["cells"] = self._measurement.cells.dump_python(results, mode="json")
        self._file.write(values, seconds, finished=len(results) == len(self._keys))
