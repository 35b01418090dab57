"""What came of the trainings of an experiment: a file of JSON lines, one for each of them."""

import contextlib
import fcntl
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from causalrn.model.reproduction.job import Job

_DIGITS = 5


class ResultsError(ValueError):
    """A file of results that cannot be read. The message names the line."""


@dataclass(frozen=True)
class Result:
    """What came of a training.

    Attributes:
        job: the training.
        outcome: "learned" to copy all strings, "stopped" after all steps, "swept" out by a better
            learning rate, or "diverged" with the reason.
        step: steps done.
        seconds: that it took, with `threads`.
        threads: of the processor, or 0 on another device.
        device: that computed, in words.
        curve: of some steps, their number, the loss and the share of right tokens in that batch.
        copied: of some steps, their number and soft, hard and exact accuracy; see
            `causalrn.model.reproduction.measuring`.
        beyond: of strings of other lengths, at the end, their length, and hard and exact accuracy.
    """

    job: Job
    outcome: str
    step: int
    seconds: float
    threads: int
    device: str
    curve: list[tuple[int, float, float]]
    copied: list[tuple[int, float, float, float]]
    beyond: list[tuple[int, float, float]] = field(default_factory=list)

    @property
    def hard(self) -> float:
        """Accuracy at the end of strings that the model wrote by itself."""
        return self.copied[-1][2] if self.copied else 0.0

    @property
    def soft(self) -> float:
        """Accuracy at the end where the model read what it should have written."""
        return self.copied[-1][1] if self.copied else 0.0

    @property
    def exact(self) -> float:
        """Share at the end of strings without a mistake."""
        return self.copied[-1][3] if self.copied else 0.0

    @property
    def rank(self) -> tuple[bool, float, int, float]:
        """What is greater is better: accuracy, fewer steps, and the loss of late."""
        is_sound = not self.outcome.startswith("diverged")
        late = self.curve[-5:]
        loss = sum(loss for _, loss, _ in late) / len(late) if late else float("inf")
        return is_sound, self.hard, -self.step, -loss

    def to_line(self) -> str:
        """A line of JSON."""
        return json.dumps(asdict(self) | {"job": asdict(self.job)}) + "\n"


_RESULT = TypeAdapter(Result)


def curves_of(
    lines: list[dict[str, Any]],
) -> tuple[list[tuple[int, float, float]], list[tuple[int, float, float, float]]]:
    """`Result.curve` and `Result.copied` from the log of a run."""
    curve, copied = {}, []
    for line in lines:
        step, loss, accuracy = line["step"], line["loss"], line["accuracy"]
        curve[step] = (step, round(loss, _DIGITS), round(accuracy, _DIGITS))
        if "hard" in line:
            soft, hard, exact = (round(line[name], _DIGITS) for name in ("soft", "hard", "exact"))
            copied.append((step, soft, hard, exact))
    return list(curve.values()), copied


class Results:
    """A file of results, to which several processes may add.

    Args:
        file: made when the first result is added.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def read(self) -> dict[str, Result]:
        """All results by the names of their jobs.

        Raises:
            ResultsError: a line is not a result.
        """
        found = {}
        text = self.file.read_text(encoding="utf-8") if self.file.is_file() else ""
        for number, line in enumerate(text.splitlines(), 1):
            try:
                result = _RESULT.validate_json(line)
            except ValidationError as error:
                reason = error.errors()[0]["msg"]
                raise ResultsError(f"{self.file}, line {number}: {reason}") from None
            found[result.job.name] = result
        return found

    def put(self, result: Result) -> None:
        """Add a result, or replace an earlier one of the same job."""
        with self._locked():
            results: Mapping[str, Result] = self.read() | {result.job.name: result}
            partial = self.file.with_name(self.file.name + ".partial")
            partial.write_text("".join(one.to_line() for one in results.values()), encoding="utf-8")
            partial.replace(self.file)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with self.file.with_name(self.file.name + ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
