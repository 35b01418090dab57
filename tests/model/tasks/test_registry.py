"""A task of one's own: registered, trained, saved, loaded and measured by its name."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from model.checkpoint import load_checkpoint
from model.config import ModelConfig
from model.generation import generate
from model.registry import UnknownNameError
from model.tasks.base import IGNORED, Batch
from model.tasks.copying import Copying
from model.tasks.registry import TASKS
from model.tokenizer import Tokenizer
from model.training.preset import load_preset
from model.training.run import Run
from model.training.trainer import Trainer
from tests.model.command import refusal, run
from tests.model.tiny import TINY


class CountingParams(BaseModel):
    model_config = ConfigDict(frozen=True)

    step: int = 1


class Counting:
    """After `BOS n` comes `n + step`, and so on, among the letters."""

    name: ClassVar[str] = "counting"
    Params: ClassVar[type[BaseModel]] = CountingParams

    modes = ("count",)

    def __init__(self, params: CountingParams, tokenizer: Tokenizer, config: ModelConfig) -> None:
        self.params = params
        self._bos, self._n_letters = tokenizer.bos_id, config.vocab_size - 3

    def batch(self, rng: np.random.Generator, share: float) -> Batch:
        assert 0 <= share <= 1
        first = rng.integers(self._n_letters, size=(4, 1))
        letters = 3 + (first + self.params.step * np.arange(9)) % self._n_letters
        ids = torch.from_numpy(np.insert(letters, 0, self._bos, axis=1))
        targets = ids[:, 1:].clone()
        targets[:, 0] = IGNORED
        return Batch(ids[:, :-1], targets, torch.zeros(4, dtype=torch.int64))

    def score(self, logits: Tensor, batch: Batch) -> dict[str, float]:
        assert logits.shape[:2] == batch.token_ids.shape
        return {"counted": float((logits.argmax(-1) == batch.targets).sum())}

    def frame(self, ids: Sequence[int], mode: str) -> list[int]:
        assert mode == "count"
        return [self._bos, *ids]

    def needs_context(self, mode: str) -> bool:
        return mode != "count"

    def answer_length(self, mode: str, n_prompt: int, n_context: int) -> int:
        return 5 if mode == "count" else n_prompt + n_context


@pytest.fixture
def _counting() -> Iterator[None]:
    TASKS.register("counting", Counting)
    yield
    TASKS.unregister("counting")


@pytest.fixture
def preset_file(tmp_path: Path, _counting: None) -> Path:
    text = TINY.read_text()
    file = tmp_path / "counting.toml"
    file.write_text(text[: text.index("[task]")] + '[task]\nname = "counting"\nstep = 2\n')
    return file


def test_the_tasks_of_the_project() -> None:
    assert TASKS.names == ["copying"]
    assert TASKS.find("copying") is Copying


def test_an_unknown_task_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnknownNameError, match="there is no task 'count', known are copying"):
        TASKS.find("count")


@pytest.mark.usefixtures("_counting")
def test_a_name_belongs_to_one_task() -> None:
    for name in ("counting", "copying"):
        with pytest.raises(ValueError, match=f"there is a task called '{name}' already"):
            TASKS.register(name, Counting)


def test_it_is_trained_saved_loaded_and_generated_from(preset_file: Path, tmp_path: Path) -> None:
    trainer = Trainer(load_preset(str(preset_file)), Run(tmp_path / "run"))
    lines: list[float] = []
    trainer.train(lambda now: lines.append(now.scores["counted"]), lambda: len(lines) == 10)
    loaded = load_checkpoint(tmp_path / "run")
    assert type(loaded.task) is Counting
    assert loaded.task.params == CountingParams(step=2)
    steps = list(generate(loaded, [[5]], max_tokens=[3]))
    assert 1 <= len(steps) <= 3


def test_the_command_line_trains_and_measures_it(preset_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    result = run("train", preset_file, "--output", folder, "--set", "optimizer.steps=45")
    assert result.exit_code == 0
    result = run("evaluate", folder, "--batches", 3, "--output", tmp_path / "scores.json")
    assert result.exit_code == 0
    head, _, loss, counted = result.stdout.splitlines()
    assert head == "| score | mean of 3 batches |"
    assert 0 < float(loss.split(" | ")[1].rstrip(" |")) < 10
    assert 0 <= float(counted.split(" | ")[1].rstrip(" |")) <= 32
    assert '"batches": 3' in (tmp_path / "scores.json").read_text()
    again = run("evaluate", folder, "--batches", 3)
    assert again.stdout == result.stdout
    assert run("evaluate", folder, "--batches", 3, "--seed", 1).stdout != result.stdout


def test_measurements_of_copying_refuse_it(preset_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run("train", preset_file, "--output", folder, "--set", "optimizer.steps=6")
    said = "was trained on the task 'counting', and this measures 'copying'"
    assert said in refusal("evaluate-turns", folder, "--turns", 2)
    assert said in refusal("evaluate-recall", folder, "--pools", 60)
    assert "--lengths is for the task 'copying'" in refusal("evaluate", folder, "--lengths", 3)
    assert "--strings is for the task 'copying'" in refusal("evaluate", folder, "--strings", 3)
