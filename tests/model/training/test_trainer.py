"""Training: schedules, and runs that are stopped, killed and resumed."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from causalrn.model.checkpoint import load_checkpoint
from causalrn.model.state import RaggedBatch
from causalrn.model.tasks.copying import Copying
from causalrn.model.training import trainer as trainer_module
from causalrn.model.training.preset import OptimizerParams, Preset, load_preset
from causalrn.model.training.run import Run, RunError
from causalrn.model.training.trainer import (
    DivergedError,
    Progress,
    Trainer,
    learning_rate,
)
from tests.model.tiny import TINY

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def preset() -> Preset:
    return load_preset(str(TINY))


def changed(*settings: str) -> Preset:
    return load_preset(str(TINY), settings)


def train(preset: Preset, folder: Path, until: int | None = None) -> tuple[Trainer, list[Progress]]:
    """Train to the end, or stop when that many steps are done."""
    trainer = Trainer(preset, Run(folder))
    reports: list[Progress] = []
    finished = trainer.train(reports.append, lambda: trainer.step == until)
    assert finished == (trainer.step == preset.optimizer.last_step)
    return trainer, reports


@pytest.fixture(scope="module")
def straight(preset: Preset, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """A run that nothing interrupted."""
    return train(preset, tmp_path_factory.mktemp("runs") / "straight")[0]


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return trainer.model.state_dict()


def assert_same(first: Trainer, second: Trainer) -> None:
    """Same parameters to the last bit, same log but for times, same checkpoint."""
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not ours[name].equal(theirs[name])] == []
    assert timeless(first.run) == timeless(second.run)
    one, other = load_checkpoint(first.run.folder), load_checkpoint(second.run.folder)
    assert one.fingerprint == other.fingerprint


def timeless(run: Run) -> list[dict[str, Any]]:
    times = {"seconds", "tokens_per_second"}
    return [{k: v for k, v in line.items() if k not in times} for line in run.log_lines()]


def test_a_run_learns_and_leaves_a_checkpoint(preset: Preset, straight: Trainer) -> None:
    log = (straight.run.folder / "log.jsonl").read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    assert [line["step"] for line in lines] == [20, 40, 45]
    assert all(math.isfinite(value) for line in lines for value in line.values())
    assert lines[-1]["loss"] < math.log(29)
    assert lines[-1]["seconds"] == straight.seconds
    checkpoint = load_checkpoint(straight.run.folder)
    assert checkpoint.config == preset.blueprint.config
    trained = checkpoint.decoder.state_dict()
    assert all(trained[name].equal(tensor) for name, tensor in weights(straight).items())


@pytest.mark.parametrize("shift_width", [1, 3])
def test_a_block_with_an_mlp_learns_and_is_served_as_it_was_trained(
    tmp_path: Path, shift_width: int
) -> None:
    recipe = changed(
        "model.blocks.0.mlp.width=8", f"model.blocks.0.mlp.shift_width={shift_width}",
        "optimizer.learning_rate=0.02",
    )  # fmt: skip
    trainer = Trainer(recipe, Run(tmp_path))
    before = {name: tensor.clone() for name, tensor in weights(trainer).items()}
    reports: list[Progress] = []
    assert trainer.train(reports.append, lambda: False)
    first, last = reports[:5], reports[-5:]
    assert sum(now.loss for now in last) < 0.95 * sum(now.loss for now in first)
    mlp = {name: tensor for name, tensor in weights(trainer).items() if name.startswith("mlps.")}
    assert {name: list(tensor.shape) for name, tensor in mlp.items()} == {
        "mlps.0.up.weight": [8, 24], "mlps.0.up.bias": [8],
        "mlps.0.down.weight": [24, 8], "mlps.0.down.bias": [24],
        **({"mlps.0.taps": [3, 24]} if shift_width > 1 else {}),
    }  # fmt: skip
    assert [name for name in mlp if bool((mlp[name] == before[name]).any())] == []
    decoder = load_checkpoint(tmp_path).decoder
    token_ids = torch.arange(29)[None]
    torch.testing.assert_close(
        decoder.extend(
            one_prompt(token_ids), decoder.new_state(n_pages=1, page_size=32, n_slots=1)
        ).logits,
        trainer.model(token_ids)[:, -1],
        rtol=1e-4,
        atol=1e-5,
    )


def one_prompt(token_ids: Tensor) -> RaggedBatch:
    return RaggedBatch(
        token_ids=token_ids[0].numpy(),
        starts=np.array([0, token_ids.shape[1]]),
        context_lens=np.array([0]),
        slots=np.array([0]),
        block_tables=np.array([[0]], np.int32),
    )


def test_every_step_is_reported(preset: Preset, tmp_path: Path) -> None:
    task = preset.blueprint.task
    assert isinstance(task, Copying)
    trainer, reports = train(preset, tmp_path, until=12)
    assert [now.step for now in reports] == list(range(1, 13))
    for done, now in enumerate(reports):
        assert now.learning_rate == learning_rate(preset.optimizer, done)
        assert now.notes == {"length_limit": task.length_limit(done / 45)}
        assert now.scores.keys() == {"accuracy"}
        assert 0 <= now.scores["accuracy"] <= 1
        assert min(now.loss, now.tokens_per_second, now.gradient_norm, now.seconds) > 0
    assert reports[-1].seconds == trainer.seconds


@pytest.mark.parametrize("stops", [[1], [19, 20, 21], [44]])
def test_a_resumed_run_equals_an_uninterrupted_one(
    preset: Preset, straight: Trainer, tmp_path: Path, stops: list[int]
) -> None:
    for stop in stops:
        stopped, reports = train(preset, tmp_path, until=stop)
        assert reports[-1].step == stopped.step == stop
        torch.randn(5)  # what else draws random numbers meanwhile does not matter
    resumed, reports = train(preset, tmp_path)
    assert reports[0].step == stops[-1] + 1
    assert resumed.seconds > reports[-1].seconds - reports[0].seconds
    assert_same(resumed, straight)


def test_a_finished_run_stays_as_it_is(preset: Preset, straight: Trainer) -> None:
    again, reports = train(preset, straight.run.folder)
    assert reports == []
    assert_same(again, straight)


def test_a_run_begins_with_another_checkpoint(
    preset: Preset, straight: Trainer, tmp_path: Path
) -> None:
    start = load_checkpoint(straight.run.folder)
    trainer = Trainer(preset, Run(tmp_path / "next"), start)
    assert [n for n, t in weights(trainer).items() if not t.equal(weights(straight)[n])] == []
    trainer.train(lambda _: None, lambda: trainer.step == 2)
    assert Trainer(preset, Run(tmp_path / "next"), start).step == 2
    with pytest.raises(RunError, match="another preset"):
        Trainer(preset, Run(tmp_path / "next"))


def test_a_start_of_another_shape_is_refused(straight: Trainer, tmp_path: Path) -> None:
    wider = changed("model.max_seq_len=999")
    with pytest.raises(RunError, match="is of another shape than preset 'tiny'"):
        Trainer(wider, Run(tmp_path / "next"), load_checkpoint(straight.run.folder))


def test_a_decoder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    recipe = changed("model.blocks.0.params.shift_channels=[3, 9999]")
    with pytest.raises(RunError, match="preset 'tiny': model: shift_channels must end by d_model"):
        Trainer(recipe, Run(tmp_path / "run"))


def test_only_what_a_preset_names_is_trained(tmp_path: Path) -> None:
    recipe = changed('optimizer.trained=["output", "classifier"]')
    trainer = Trainer(recipe, Run(tmp_path / "run"))
    before = {name: tensor.clone() for name, tensor in weights(trainer).items()}
    trainer.train(lambda _: None, lambda: trainer.step == 5)
    moved = {name for name, tensor in weights(trainer).items() if not tensor.equal(before[name])}
    assert moved == {name for name in before if name.startswith("classifier") or ".output." in name}
    resumed = Trainer(recipe, Run(tmp_path / "run"))
    assert resumed.step == 5
    assert all(tensor.equal(weights(trainer)[name]) for name, tensor in weights(resumed).items())


def test_another_seed_gives_other_weights(straight: Trainer, tmp_path: Path) -> None:
    other, _ = train(changed("seed=4"), tmp_path)
    assert not weights(other)["classifier.weight"].equal(weights(straight)["classifier.weight"])


def test_a_run_stopped_before_its_first_step(
    preset: Preset, straight: Trainer, tmp_path: Path
) -> None:
    Trainer(preset, Run(tmp_path)).save()
    assert_same(train(preset, tmp_path)[0], straight)


@pytest.mark.parametrize(
    "setting", ["optimizer.steps=46", "seed=4", "optimizer.learning_rate=0.02", "task.window=7"]
)
def test_other_settings_are_refused(preset: Preset, tmp_path: Path, setting: str) -> None:
    train(preset, tmp_path, until=2)
    with pytest.raises(RunError, match=r"of another preset.* --output, or --restart"):
        Trainer(changed(setting), Run(tmp_path))
    assert Trainer(preset, Run(tmp_path)).step == 2


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_state_is_refused(preset: Preset, tmp_path: Path, share: float) -> None:
    train(preset, tmp_path, until=2)
    file = tmp_path / "training-state.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    with pytest.raises(RunError, match=f"{file}: truncated or malformed: .*--restart"):
        Trainer(preset, Run(tmp_path))


def test_a_state_of_something_else_is_refused(
    preset: Preset, straight: Trainer, tmp_path: Path
) -> None:
    weights_file = straight.run.folder / "model.safetensors"
    (tmp_path / "training-state.safetensors").write_bytes(weights_file.read_bytes())
    with pytest.raises(RunError, match="'recipe' is missing"):
        Trainer(preset, Run(tmp_path))


def test_a_checkpoint_is_not_trained_over(
    preset: Preset, straight: Trainer, tmp_path: Path
) -> None:
    for name in ("model.safetensors", "config.json"):
        (tmp_path / name).write_bytes((straight.run.folder / name).read_bytes())
    with pytest.raises(RunError, match=r"holds a checkpoint .*--restart"):
        Trainer(preset, Run(tmp_path))
    load_checkpoint(tmp_path)


def test_clearing_forgets_the_run(preset: Preset, tmp_path: Path) -> None:
    train(preset, tmp_path)
    (tmp_path / "README.md").write_text("mine")
    Run(tmp_path).clear()
    assert [file.name for file in tmp_path.iterdir()] == ["README.md"]
    assert Trainer(preset, Run(tmp_path)).step == 0


def test_a_log_without_a_state_is_forgotten(preset: Preset, tmp_path: Path) -> None:
    Run(tmp_path).log({"step": 20})
    run = Trainer(preset, Run(tmp_path)).run
    assert run.log_lines() == []


def test_log_lines_after_the_state_are_dropped(
    preset: Preset, straight: Trainer, tmp_path: Path
) -> None:
    train(preset, tmp_path, until=21)
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"step": 40, "loss": 9}\n{"step": 41, "lo')  # as a crash leaves it
    assert_same(train(preset, tmp_path)[0], straight)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="Not a directory"):
        Run(tmp_path / "file" / "run")
    with pytest.raises(RunError, match="File exists"):
        Run(tmp_path / "file")


def test_a_run_that_diverges_stops(tmp_path: Path) -> None:
    trainer = Trainer(changed("optimizer.warmup_steps=0"), Run(tmp_path))
    trainer._step()
    with torch.no_grad():
        trainer.model.classifier.weight[0, 0] = torch.nan
    before = {name: tensor.clone() for name, tensor in weights(trainer).items()}
    with pytest.raises(DivergedError, match=r"step 2: loss nan.*lower learning_rate"):
        trainer.train(lambda _: None, lambda: False)
    assert trainer.step == 1
    after = weights(trainer)
    assert all(
        after[name].equal(
            before[name],
        )
        or "classifier" in name
        for name in before
    )
    assert not (tmp_path / "model.safetensors").exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from causalrn.model.training import run as module
from causalrn.model.training.preset import load_preset
from causalrn.model.training.trainer import Trainer

preset, folder, last = sys.argv[1:]
trainer = Trainer(load_preset(preset), module.Run(Path(folder)))
save_file = module.save_file

def save_half(tensors, file, metadata):
    save_file(tensors, file, metadata)
    os.truncate(file, os.path.getsize(file) // 2)
    os.kill(os.getpid(), signal.SIGKILL)

def stop():
    if trainer.step == int(last):
        module.save_file = save_half
    trainer.save()
    print(trainer.step, flush=True)
    return False

trainer.train(lambda now: None, stop)
"""


def test_a_killed_run_can_be_resumed(straight: Trainer, tmp_path: Path) -> None:
    """The process saves after every step, and is killed when half of a state is written."""
    killed = tmp_path / "killed"

    def run(last: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", KILLED, str(TINY), str(killed), str(last)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    first = run(23)
    assert (first.returncode, first.stdout.split()[-1]) == (-9, "22"), first.stderr
    second = run(0)
    assert second.returncode == 0, second.stderr
    assert second.stdout.split() == [str(step) for step in range(23, 46)]
    whole = load_checkpoint(straight.run.folder)
    assert load_checkpoint(killed).fingerprint == whole.fingerprint
    assert timeless(Run(killed)) == timeless(straight.run)


def test_a_long_run_is_saved_now_and_then(
    preset: Preset, straight: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that one that ends without a word, killed say, has not been in vain."""
    monkeypatch.setattr(trainer_module, "_SAVE_SECONDS", -1)

    def end(now: Progress) -> None:
        if now.step == 23:
            raise SystemExit

    with pytest.raises(SystemExit):
        Trainer(preset, Run(tmp_path)).train(end, lambda: False)
    assert Trainer(preset, Run(tmp_path)).step == 22
    assert_same(train(preset, tmp_path)[0], straight)


def test_an_interrupted_run_leaves_a_checkpoint(preset: Preset, tmp_path: Path) -> None:
    trainer, _ = train(preset, tmp_path, until=7)
    assert trainer.saved_step == 7
    loaded = load_checkpoint(tmp_path)
    assert loaded.task.params == preset.blueprint.task.params
    found = loaded.decoder.state_dict()
    assert all(found[name].equal(tensor) for name, tensor in weights(trainer).items())


def test_checkpoints_come_as_often_as_wanted(preset: Preset, tmp_path: Path) -> None:
    """Each is that of the steps so far, and going on from the last one is going on as ever."""
    fingerprints = {}

    def note(now: Progress) -> None:
        if now.step % 10 == 1 and now.step > 1:
            fingerprints[now.step - 1] = load_checkpoint(tmp_path / "run").fingerprint
        if now.step == 32:
            raise SystemExit

    trainer = Trainer(preset, Run(tmp_path / "run"), save_every=10)
    with pytest.raises(SystemExit):
        trainer.train(note, lambda: False)
    assert trainer.saved_step == 30
    assert Trainer(preset, Run(tmp_path / "run")).step == 30
    for step, fingerprint in fingerprints.items():
        train(preset, tmp_path / str(step), until=step)
        assert load_checkpoint(tmp_path / str(step)).fingerprint == fingerprint
    assert list(fingerprints) == [10, 20, 30]


def test_a_diverged_run_keeps_the_last_checkpoint(preset: Preset, tmp_path: Path) -> None:
    trainer = Trainer(preset, Run(tmp_path), save_every=4)

    def break_it(now: Progress) -> None:
        if now.step == 6:
            with torch.no_grad():
                trainer.model.classifier.weight[0, 0] = torch.nan

    with pytest.raises(DivergedError, match="step 7: "):
        trainer.train(break_it, lambda: False)
    assert trainer.saved_step == 4
    assert Trainer(preset, Run(tmp_path)).step == 4
    load_checkpoint(tmp_path)


def test_places_that_cannot_be_matched_are_refused(tmp_path: Path) -> None:
    preset = changed("match_places=true", "model.blocks.1.params.shift_width=1")
    with pytest.raises(RunError, match=r"match_places: .* only behind a token shift"):
        Trainer(preset, Run(tmp_path))


def rates(**changes: Any) -> list[float]:
    optimizer = OptimizerParams(**changes)
    return [learning_rate(optimizer, step) for step in range(optimizer.steps)]


def test_the_rate_warms_up_and_decays() -> None:
    found = rates(steps=1000, learning_rate=0.4, warmup_steps=10, final_ratio=0.1)
    assert found[0] == pytest.approx(0.04)
    assert found[4] == pytest.approx(0.2, rel=1e-3)
    assert found[500] == pytest.approx(0.4 * (0.1 + 0.9 / 2))
    assert found[250] == pytest.approx(0.4 * (0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2))
    assert found[999] == pytest.approx(0.04, rel=1e-4)
    assert found[9:] == sorted(found[9:], reverse=True)


def test_the_rate_needs_no_warm_up() -> None:
    assert rates(steps=10, learning_rate=0.4, warmup_steps=0, final_ratio=1.0) == [0.4] * 10


def test_a_run_that_stops_early_does_as_the_longer_one_until_then(
    preset: Preset, tmp_path: Path
) -> None:
    early, _ = train(changed("optimizer.stop=7"), tmp_path / "early")
    interrupted, _ = train(preset, tmp_path / "interrupted", until=7)
    assert early.step == 7
    assert (tmp_path / "early" / "model.safetensors").is_file()
    for name, tensor in weights(early).items():
        assert tensor.equal(weights(interrupted)[name]), name
