"""A task of one's own: registered, trained, saved, loaded and measured by its name."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from causalrn.model.checkpoint import load_checkpoint
from causalrn.model.generation import generate
from causalrn.model.registry import UnknownNameError
from causalrn.model.tasks.copying import Copying
from causalrn.model.tasks.registry import TASKS
from causalrn.model.training.preset import load_preset
from causalrn.model.training.run import Run
from causalrn.model.training.trainer import Trainer
from tests.model.command import refusal, run
from tests.model.counting import Counting, CountingParams
from tests.model.tiny import TINY


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
    assert TASKS.names == ["associative", "copying", "induction", "languages", "selective", "text"]
    assert TASKS.find("copying") is Copying


def test_an_unknown_task_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        UnknownNameError,
        match="there is no task 'count'; known tasks: associative, copying, "
        "induction, languages, selective",
    ):
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


@pytest.mark.usefixtures("quick_interpreter")
def test_it_is_measured_on_a_device(preset_file: Path, tmp_path: Path) -> None:
    Trainer(load_preset(str(preset_file)), Run(tmp_path / "run")).save()
    measure = ("evaluate", tmp_path / "run", "--batches", 1, "--device")
    assert run(*measure, "cuda").stdout == run(*measure, "cpu").stdout
    keys = "model.blocks=[{mixer='normalized', params={d_relation=16, d_value=6}}]"
    Trainer(load_preset(str(preset_file), [keys]), Run(tmp_path / "keyed")).save()
    measure = ("evaluate", tmp_path / "keyed", "--batches", 1, "--device")
    assert run(*measure, "cuda").stdout == run(*measure, "cpu").stdout


@pytest.mark.usefixtures("_counting")
def test_a_preset_of_another_task_than_its_base_takes_over_no_parameters(tmp_path: Path) -> None:
    heir = tmp_path / "heir.toml"
    heir.write_text(f'base = "{TINY}"\n[task]\nname = "counting"\nstep = 3\n')
    preset = load_preset(str(heir))
    assert preset.blueprint.task.params == CountingParams(step=3)
    assert preset.optimizer.steps == 45


def test_measurements_of_copying_refuse_it(preset_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run("train", preset_file, "--output", folder, "--set", "optimizer.steps=6")
    said = "was trained on the task 'counting', and this measures 'copying'"
    assert said in refusal("evaluate-turns", folder, "--turns", 2)
    assert said in refusal("evaluate-recall", folder, "--pools", 60)
    assert "--lengths is for the task 'copying'" in refusal("evaluate", folder, "--lengths", 3)
    assert "--strings is for the task 'copying'" in refusal("evaluate", folder, "--strings", 3)
