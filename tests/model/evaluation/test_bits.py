"""Bits per byte of a text: what is counted, what is drawn, and what is refused."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from causalrn.model.checkpoint import Checkpoint
from causalrn.model.data.documents import Format
from causalrn.model.evaluation.bits import Cell, bits, mean, table
from tests.model.command import refusal, run
from tests.model.tiny import random_checkpoint

TEXTS = ["some words é, and more of them " * 6, "another document"]


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return file


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return random_checkpoint(tmp_path_factory.mktemp("models") / "one", "bytes")


def measured(checkpoint: Checkpoint, file: Path, context: int, n: int = 100) -> list[Cell]:
    (part,) = bits([checkpoint], [file], Format(), context, n).parts
    done: list[float] = []
    cells = part.measure(done.append)
    assert sum(done) == pytest.approx(part.work)
    assert [cell.key for cell in cells] == list(part.keys)
    return list(cells)


def test_every_token_is_counted_where_it_stands(model: Checkpoint, lines: Path) -> None:
    config = model.config
    ids = [
        token
        for text in TEXTS
        for token in [config.bos_id, *text.encode(), config.eos_id]
    ]  # fmt: skip
    n_bytes = len("".join(TEXTS).encode())
    cells = measured(model, lines, 48)
    assert [(cell.begin, cell.end) for cell in cells] == [(0, 16), (16, 32), (32, 48)]
    n_windows = (len(ids) - 1) // 48
    assert [cell.tokens for cell in cells] == [16 * n_windows] * 3
    nats = torch.zeros(48, dtype=torch.float64)
    for number in range(n_windows):
        window = torch.tensor(ids[number * 48 : number * 48 + 49])
        logits = model.decoder(window[None, :-1])[0]
        nats += cross_entropy(logits, window[1:], reduction="none").double()
    scale = math.log(2) * n_bytes / len(ids) * 16 * n_windows
    for cell in cells:
        expected = float(nats[cell.begin : cell.end].sum()) / scale
        assert cell.bits == pytest.approx(expected, rel=1e-5)
    assert mean(cells) == pytest.approx(float(nats.sum()) / scale / 3, rel=1e-5)


def test_a_text_may_be_shorter_than_the_context(model: Checkpoint, lines: Path) -> None:
    cells = measured(model, lines, 1000)
    assert (cells[0].begin, cells[-1].end) == (0, sum(len(t.encode()) + 2 for t in TEXTS) - 1)


def test_the_table_has_a_column_for_each_model() -> None:
    cells = [Cell(name, 0, 16, 16, x) for name, x in (("a", 2.0), ("b", 1.0))]
    cells += [Cell("a", 16, 20, 4, 1.0)]
    assert table(cells) == (
        "Bits per byte of text:\n\n| tokens read before | a | b |\n| --- | ---: | ---: |\n"
        "| 0 to 15 | 2.000 | 1.000 |\n| 16 to 19 | 1.000 |  |\n| all | 1.800 | 1.000 |\n"
    )


def test_the_command_compares_and_draws(model: Checkpoint, lines: Path, tmp_path: Path) -> None:
    other = random_checkpoint(tmp_path / "other", "letters")
    assert other.tokenizer.name == "letters"
    again = tmp_path / "again"
    again.symlink_to(model.path)
    plot, output = tmp_path / "bits.svg", tmp_path / "bits.json"
    args = ("--data", lines, "--context", 32, "--compare", again, "--threads", 1)
    result = run("evaluate", model.path, *args, "--plot", plot, "--output", output)
    assert result.exit_code == 0
    assert "| tokens read before | one | again |" in result.stdout
    assert plot.read_text().startswith("<?xml")
    values = json.loads(output.read_text())
    assert values["context"] == 32
    assert {cell["model"] for cell in values["cells"]} == {"one", "again"}
    said = run("evaluate", model.path, *args, "--output", output).stderr
    assert "2 of 2 parts are in" in said


def test_what_cannot_be_measured_is_refused(model: Checkpoint, lines: Path, tmp_path: Path) -> None:
    args = ("evaluate", model.path, "--threads", 1)
    said = refusal(*args, "--data", tmp_path / "none")
    assert said == f"{tmp_path}/none: no such file or folder"
    longest = model.config.max_seq_len
    said = refusal(*args, "--data", lines, "--context", longest + 1)
    assert said == f"one holds {longest} tokens, fewer than --context {longest + 1}"
    said = refusal(*args, "--data", lines, "--context", 9, "--compare", model.path)
    assert said == "two of these checkpoints have the same name: one, one"
    result = run(*args, "--data", lines, "--plot", tmp_path / "a.jpg")
    assert result.exit_code == 2
    assert "must end in .svg or .png" in " ".join(result.stderr.replace("│", "").split())
    assert refusal(*args, "--compare", model.path) == "--compare is for --data"
    said = refusal(*args, "--data", lines, "--batches", 3)
    assert said == "--batches is not for --data"
