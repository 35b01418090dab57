"""Starts of training: what is trained, and the table and the drawing of what came of it."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from benchmarks import training, training_figure, training_tables
from benchmarks.training import STARTS, Mark
from causalrn.model.evaluation.strings import BYTE_KINDS
from causalrn.model.training.preset import load_preset

MARKS = [
    Mark(10, 2.6, 0.5, {64: (13, 26), 2048: (0, 26)}, (3, 96)),
    Mark(20, 5.2, 0.1, {64: (26, 26), 2048: (25, 26)}, None),
]


def results() -> dict[str, object]:
    marks = [
        asdict(mark) | {"copies": {str(n): c for n, c in mark.copies.items()}} for mark in MARKS
    ]
    return {"lengths": [64, 2048], "pool": 4096, "threads": 2, "starts": {"a start": marks}}


@pytest.mark.parametrize("title", STARTS)
def test_starts_are_presets_that_go_on_from_earlier_ones(title: str) -> None:
    one, titles = STARTS[title], list(STARTS)
    preset = load_preset(training.preset_of(one), one.settings)
    assert preset.optimizer.last_step >= one.marks[-1]
    assert one.after is None or titles.index(one.after) < titles.index(title)


def test_a_start_is_trained_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "LENGTHS", (4, 8))
    one = training.Start("exact-bytes-small", (1, 2), ("task.batch_tokens=64",))
    first, second = training.train(one, tmp_path / "run", None, 5.0)
    assert (first.step, second.step) == (1, 2)
    assert 5 < first.seconds < second.seconds
    n_strings = training.N_STRINGS * len(BYTE_KINDS)
    assert second.copies == {4: (0, n_strings), 8: (0, n_strings)}
    assert second.recalls == (0, 6 * 2 * len(training.PREFIXES) * training.N_QUERIES)


def test_the_table() -> None:
    assert training_tables.starts(results()).splitlines() == [
        "| start | steps | seconds | copies of 64 | copies of 2048 | recalls |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| a start | 10 | 3 | 13 of 26 | 0 of 26 | 3 of 96 |",
        "|  | 20 | 5 | 26 of 26 | 25 of 26 |  |",
    ]


def test_the_drawing_has_a_line_for_each_start() -> None:
    copies, _, recalls = training_figure.draw(results()).axes
    (line,) = copies.lines
    assert np.asarray(line.get_data()).tolist() == [[2.6, 5.2], [50, 100]]
    assert np.asarray(recalls.lines[0].get_data()).tolist() == [[2.6], [3.125]]
