"""How exact a model gets, by seconds of training: from construction, and from random weights.

    python -m benchmarks.training [--starts 'NAME; NAME…'] [--threads N] [--output FILE]

Each start is a preset of the project or one in `benchmarks/presets`. It is trained for a number of
steps, and measured after some of them, as the evaluating commands do: copies of every kind of
string, and recalls from the beginning and from the middle of passages. Seconds are those of
training alone; where a start goes on from what another one has trained, that one's count as well.
With `--output`, the file keeps its results of other starts. The last line is JSON.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.figures import arguments, machine, publish, start
from causalrn.model.checkpoint import Checkpoint, load_checkpoint
from causalrn.model.evaluation.copying import copying
from causalrn.model.evaluation.plan import Copies, Plan
from causalrn.model.evaluation.recall import recall
from causalrn.model.ops.cpu import jit
from causalrn.model.output_file import write_json
from causalrn.model.training.preset import load_preset
from causalrn.model.training.run import Run
from causalrn.model.training.trainer import DivergedError, Trainer

LENGTHS, N_STRINGS = (64, 512, 2048), 2
POOL, PREFIXES, N_QUERIES = 4096, [16, 32], 4
PRESETS = Path(__file__).parent / "presets"

_ALL = 'optimizer.trained=["embedding", "mixers", "classifier"]'


@dataclass(frozen=True)
class Start:
    """Something to train.

    Attributes:
        preset: name, or file in `benchmarks/presets`.
        marks: steps after which the model is measured; the last one ends the training.
        settings: values that the preset has not.
        after: the start from whose last weights it goes on; None for its own.
    """

    preset: str
    marks: tuple[int, ...]
    settings: tuple[str, ...] = ()
    after: str | None = None


_GENTLE = (
    "construction.spike=0.35",
    "model.blocks.0.params.temperature=4.0",
    "model.blocks.1.params.temperature=4.0",
    "model.blocks.0.params.recency=0.0",
)

STARTS = {
    "wide: read-out": Start("exact-bytes", (10, 20, 40, 80, 150)),
    "wide: then all, rate 1e-4": Start(
        "exact-bytes", (20, 60), (_ALL, "optimizer.learning_rate=1e-4"), "wide: read-out"
    ),
    "compact: read-out": Start("exact-bytes-small", (10, 20, 40, 100, 300)),
    "compact: then all, rate 1e-5": Start(
        "exact-bytes-small", (20, 60), (_ALL, "optimizer.learning_rate=1e-5"), "compact: read-out"
    ),
    "wide, τ = 4: read-out": Start("exact-bytes", (40, 150), _GENTLE),
    "wide, τ = 4: then all, rate 3e-4": Start(
        "exact-bytes",
        (20, 60),
        (*_GENTLE, _ALL, "optimizer.learning_rate=3e-4"),
        "wide, τ = 4: read-out",
    ),
    "wide, τ = 4: all from the start": Start(
        "exact-bytes", (40, 150), (*_GENTLE, _ALL, "optimizer.learning_rate=2e-3")
    ),
    "random weights, with keys": Start("random-keyed.toml", (100, 300, 600)),
    "random weights, without keys": Start("random-plain.toml", (100, 300, 600)),
    "random weights, copies alone": Start(
        "copy-bytes-1",
        (100, 300, 600),
        ("match_places=true", "optimizer.steps=600", "task.max_length=64"),
    ),
}


@dataclass(frozen=True)
class Mark:
    """A model at one step of its training.

    Attributes:
        step: of this training, not counting what it goes on from.
        seconds: of all training.
        loss: of the last batch; None if it was not finite, which ends the training.
        copies: by length, strings that were copied exactly, and all.
        recalls: passages that were recalled exactly, and all; None if it does not learn to recall.
    """

    step: int
    seconds: float
    loss: float | None
    copies: dict[int, tuple[int, int]]
    recalls: tuple[int, int] | None


def preset_of(one: Start) -> str:
    """The preset's name, or the path of its file."""
    return str(PRESETS / one.preset) if one.preset.endswith(".toml") else one.preset


def train(one: Start, folder: Path, before: Checkpoint | None, seconds: float) -> Iterator[Mark]:
    """Train and measure.

    Args:
        one: what to train.
        folder: for the run.
        before: what it goes on from.
        seconds: how long that was trained.
    """
    trainer = Trainer(load_preset(preset_of(one), one.settings), Run(folder), before)
    losses: list[float | None] = [None]
    for mark in one.marks:
        try:
            trainer.train(
                lambda progress: losses.append(progress.loss), partial(_is_at, trainer, mark)
            )
        except DivergedError:
            losses.append(None)
        figures = measured(load_checkpoint(folder))
        yield Mark(trainer.step, seconds + trainer.seconds, losses[-1], *figures)
        if losses[-1] is None:
            return


def _is_at(trainer: Trainer, step: int) -> bool:
    return trainer.step >= step


def measured(
    checkpoint: Checkpoint,
) -> tuple[dict[int, tuple[int, int]], tuple[int, int] | None]:
    """By length, copies that are exact and all of them; recalls that are exact and all of them."""
    plan = Plan(copies=(Copies(lengths=LENGTHS, strings=N_STRINGS),))
    copies = [
        cell for part in copying(checkpoint, plan, 0).parts for cell in part.measure(_tell_nobody)
    ]
    by_length = {
        length: (
            sum(cell.exact for cell in copies if cell.length == length),
            sum(cell.n_strings for cell in copies if cell.length == length),
        )
        for length in LENGTHS
    }
    if not checkpoint.config.recall:
        return by_length, None
    asked = recall(checkpoint, pools=[POOL], prefixes=PREFIXES, n_queries=N_QUERIES, seed=0)
    recalls = [cell for part in asked.parts for cell in part.measure(_tell_nobody)]
    return by_length, (sum(c.exact for c in recalls), sum(c.n_queries for c in recalls))


def _tell_nobody(_: float) -> None:
    pass


def measure(titles: Sequence[str], output: Path | None) -> dict[str, Any]:
    """All figures, as JSON-ready values; the file has those of each start as soon as it is done."""
    settings = {"lengths": LENGTHS, "pool": POOL, "prefixes": PREFIXES}
    figures: dict[str, Any] = machine() | settings | {"starts": {}}
    if output is not None and output.exists():
        figures["starts"] = json.loads(output.read_text(encoding="utf-8"))["starts"]
    with tempfile.TemporaryDirectory() as name:
        folders = {title: Path(name) / str(number) for number, title in enumerate(STARTS)}
        for title in titles:
            one, before, seconds = STARTS[title], None, 0.0
            if one.after is not None:
                before = load_checkpoint(folders[one.after])
                seconds = figures["starts"][one.after][-1]["seconds"]
            marks = []
            for mark in train(one, folders[title], before, seconds):
                marks.append(asdict(mark))
                _show(title, mark)
            figures["starts"][title] = marks
            if output is not None:
                write_json(output, figures)
    return figures


def _show(title: str, mark: Mark) -> None:
    copies = ", ".join(f"{exact} of {n} at {length}" for length, (exact, n) in mark.copies.items())
    recalls = f"; recalls {mark.recalls[0]} of {mark.recalls[1]}" if mark.recalls else ""
    done = f"{title}: {mark.step} steps, {mark.seconds:.0f} s"
    print(f"{done}: copies {copies}{recalls}", file=sys.stderr, flush=True)


def _titles(text: str) -> list[str]:
    titles = [title.strip() for title in text.split(";")]
    for title in titles:
        if title not in STARTS:
            raise ValueError(f"no start {title!r}")
        if (after := STARTS[title].after) is not None and after not in titles:
            raise ValueError(f"{title!r} goes on from {after!r}")
    return titles


def main() -> None:
    """Print progress as it comes, and the figures as JSON."""
    parser = arguments(__doc__)
    parser.add_argument(
        "--starts", type=_titles, default=list(STARTS), help="names, separated by ';'; default all"
    )
    parser.add_argument("--threads", type=int, default=jit.num_threads(), help="%(default)s")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    jit.set_num_threads(options.threads)
    publish(measure(options.starts, options.output), options.output)


if __name__ == "__main__":
    start(main)
