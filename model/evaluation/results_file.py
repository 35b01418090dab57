"""The file of a measurement: written anew after each part of it, and gone on from afterwards."""

import fcntl
import json
import os
from pathlib import Path
from typing import Any, Self, TextIO

from causalrn.model.evaluation.errors import EvaluationError
from causalrn.model.output_file import as_json, write_json

_NAME = "checkpoint"  # a checkpoint may be renamed; its fingerprint says which one it is


class ResultsFile:
    """Keeps the results of one measurement, and lets no other process write them until it is left.

    The file is replaced as a whole each time, so that a crash leaves what was there before. What is
    not an ordinary file, such as a pipe, is written once, in the end.

    Args:
        file: where the results go.
        known: what they depend on, JSON-ready.

    Raises:
        EvaluationError: another process writes the file.
        OSError: the file cannot be opened.
    """

    def __init__(self, file: Path, known: dict[str, Any]) -> None:
        self._known = known
        self._lock: TextIO | None = None
        self._file = file
        if not file.exists() or file.is_file():
            self._file = file.resolve()  # a link is followed, not replaced
            self._lock = self._locked()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.close()

    def read(self) -> tuple[list[Any], float]:
        """What the file has already: its cells, as parsed, and the seconds that they took.

        Raises:
            EvaluationError: it holds something else, or what depends on other things.
            OSError: it cannot be read.
        """
        if self._lock is None or not os.fstat(self._lock.fileno()).st_size:
            return [], 0.0
        try:
            found = json.loads(self._lock.read())
            cells, seconds = list(found["cells"]), float(found["seconds"])
        except (ValueError, TypeError, KeyError, RecursionError):
            raise self.other("no results of this command") from None
        for name, ours in json.loads(as_json(self._known)).items():  # tuples as lists
            if name != _NAME and found.get(name) != ours:
                raise self.other(
                    f"results with {name} = {_short(found.get(name))}, this measurement has "
                    f"{_short(ours)}"
                )
        return cells, seconds

    def other(self, what: str) -> EvaluationError:
        """The error for a file that holds something else than what is measured."""
        return EvaluationError(
            f"{self._file} holds {what}; name another file, or begin again with --restart"
        )

    def write(self, values: dict[str, Any], seconds: float, *, finished: bool) -> None:
        """Put results into the file.

        Args:
            values: all of them, JSON-ready.
            seconds: that it took to measure them.
            finished: whether nothing is missing.

        Raises:
            OSError: the file cannot be written.
        """
        times = {"seconds": round(seconds, 1), "finished": finished}
        whole = self._known | times | values
        if self._lock is None:
            if finished:
                write_json(self._file, whole)
            return
        partial = self._file.with_name(f"{self._file.name}.partial")
        new = partial.open("w", encoding="utf-8")
        try:
            fcntl.flock(new, fcntl.LOCK_EX)
            new.write(as_json(whole))
            new.flush()
            os.fsync(new.fileno())
            partial.replace(self._file)
        except BaseException:  # an interrupt, too
            new.close()
            partial.unlink(missing_ok=True)
            raise
        self._lock.close()
        self._lock = new

    def _locked(self) -> TextIO:
        """The file, opened; made if there is none."""
        opened = self._file.open("a+", encoding="utf-8")
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_current = os.fstat(opened.fileno()).st_ino == self._file.stat().st_ino
        except (BlockingIOError, FileNotFoundError):
            is_current = False
        if not is_current:  # locked, or just replaced or removed by whoever had locked it
            opened.close()
            raise EvaluationError(f"{self._file}: another process is writing this file")
        opened.seek(0)
        return opened


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "…"
