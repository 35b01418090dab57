"""Training on a device, interpreted, beside the CPU."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from causalrn.model.checkpoint import load_checkpoint
from causalrn.model.config import ModelConfig
from causalrn.model.decoder import Decoder
from causalrn.model.device import Device
from causalrn.model.ops.norm import cpu as cpu_norm
from causalrn.model.ops.norm import gpu as gpu_norm
from causalrn.model.ops.norm import reference
from causalrn.model.ops.relation import cpu_keyed_whole, cpu_whole, gpu_separable_whole, gpu_whole
from causalrn.model.ops.token_shift import cpu as cpu_token_shift
from causalrn.model.ops.token_shift import gpu_whole as gpu_token_shift
from causalrn.model.ops.token_shift.reference import token_shift
from causalrn.model.training.preset import Preset, load_preset
from causalrn.model.training.run import Run
from causalrn.model.training.trainer import Progress, Trainer
from tests.model.command import refusal, run
from tests.model.tiny import TINY, tiny_config

pytestmark = pytest.mark.usefixtures("quick_interpreter")

# Two or three short strings a step: the interpreter takes long for each tile.
FEW = (
    "task.batch_tokens=16", "task.max_length=4", "task.max_context=10", "task.max_turns=1",
    "model.blocks.0.params.n_head=1", "model.blocks.1.params.n_head=1",
    "model.blocks.0.mlp.width=8", "model.blocks.0.mlp.shift_width=3",
)  # fmt: skip
# A blunt relation, and one that has all that keyed ones can have.
KEYED = (
    *FEW[1:4], "task.batch_tokens=12",
    "model.blocks=[{mixer='normalized', params={d_relation=16, d_value=6, shift_width=2}}, "
    "{mixer='normalized', params={d_relation=16, d_value=8, shift_width=3, temperature=2.0, "
    "recency=0.5, silent_values=true, tied_keys=true, tells_match=true, tolerance=0.5}}]",
)  # fmt: skip
STEPS = 6


def preset(steps: int, changes: Sequence[str] = FEW) -> Preset:
    return load_preset(str(TINY), [*changes, f"optimizer.steps={steps}"])


def train(
    steps: int,
    folder: Path,
    device: Device,
    until: int | None = None,
    changes: Sequence[str] = FEW,
) -> tuple[Trainer, list[Progress]]:
    """Train to the end, or be ended without a word when that many steps are done."""
    trainer = Trainer(preset(steps, changes), Run(folder), save_every=2, device=device)
    reports: list[Progress] = []

    def report(now: Progress) -> None:
        reports.append(now)
        if now.step == until:
            raise SystemExit

    if until is None:
        assert trainer.train(reports.append, lambda: False)
    else:
        with pytest.raises(SystemExit):
            trainer.train(report, lambda: False)
    return trainer, reports


def weights(folder: Path) -> dict[str, Tensor]:
    return load_checkpoint(folder).decoder.state_dict()


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on the device that nothing interrupted."""
    folder = tmp_path_factory.mktemp("runs") / "straight"
    train(STEPS, folder, "cuda")
    return folder


def test_a_device_learns_as_the_cpu_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses are the same to 1e-5 of them, of which rounding takes 3e-7."""
    got = compare(50, tmp_path, monkeypatch, FEW)
    assert got[-1].loss < 0.7 * got[0].loss


def test_a_device_learns_keyed_relations_as_the_cpu_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses are the same to 1e-5 of them, of which rounding takes 1e-7."""
    compare(10, tmp_path, monkeypatch, KEYED)
    learned = weights(tmp_path / "cuda")
    for block, temperature in enumerate((1.0, 2.0)):
        assert abs(learned[f"mixers.{block}.temperature"] - temperature) > 0.01


def compare(
    steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: Sequence[str]
) -> list[Progress]:
    """Train on the CPU and on a device, which is to come to the same."""
    expected = train(steps, tmp_path / "cpu", "cpu", changes=changes)[1]
    for kernels in (cpu_norm, cpu_token_shift, cpu_whole, cpu_keyed_whole):
        monkeypatch.setattr(kernels, "forward", None)  # which a device has no use for
        monkeypatch.setattr(kernels, "backward", None)
    got = train(steps, tmp_path / "cuda", "cuda", changes=changes)[1]
    assert [now.loss for now in got] == pytest.approx([now.loss for now in expected], rel=1e-5)
    norms = [now.gradient_norm for now in expected]
    assert [now.gradient_norm for now in got] == pytest.approx(norms, rel=1e-4)
    assert [now.scores for now in got] == [now.scores for now in expected]
    cpu, cuda = (weights(tmp_path / name) for name in ("cpu", "cuda"))
    for name, tensor in cuda.items():
        torch.testing.assert_close(tensor, cpu[name], rtol=1e-4, atol=1e-5)
    return got


@pytest.mark.parametrize("until", [2, 5])
def test_a_run_that_was_ended_goes_on_to_the_same_weights(
    straight: Path, tmp_path: Path, until: int
) -> None:
    train(STEPS, tmp_path, "cuda", until)
    resumed, reports = train(STEPS, tmp_path, "cuda")
    assert reports[0].step == (until - 1) // 2 * 2 + 1
    assert resumed.step == STEPS
    assert load_checkpoint(tmp_path).fingerprint == load_checkpoint(straight).fingerprint


@pytest.mark.parametrize(("first", "second"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_a_run_goes_on_on_another_device(
    straight: Path, tmp_path: Path, first: Device, second: Device
) -> None:
    train(STEPS, tmp_path, first, until=3)
    train(STEPS, tmp_path, second)
    expected = weights(straight)
    for name, tensor in weights(tmp_path).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5)


def test_nothing_on_a_device_is_read_by_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors that have shapes alone stand in for those of a device: NumPy refuses both."""
    monkeypatch.setattr(gpu_norm, "norm", reference.norm)
    monkeypatch.setattr(gpu_token_shift, "token_shift", token_shift)
    monkeypatch.setattr(gpu_whole, "normalized_relation", lambda a, b, _: a + b)
    monkeypatch.setattr(gpu_separable_whole, "separable_relation", lambda a, b, _: a + b)
    configs: list[ModelConfig] = [
        tiny_config(mlp_width=8, mlp_shift_width=2),
        tiny_config(mixers=("normalized", "normalized"), recall_blocks=1, recall_shift_width=9,
                    recall=True),
        tiny_config(positions="learned", d_position=0),
    ]  # fmt: skip
    ids, offsets = torch.full((2, 5), 3), torch.tensor([0, 7])
    for config in configs:
        decoder = Decoder(config, "gpu").to("meta")
        logits = decoder(ids, offsets)
        assert (logits.device.type, logits.shape) == ("meta", (2, 5, config.vocab_size))
        logits.sum().backward()
        gradients = [parameter.grad for parameter in decoder.parameters()]
        assert [one for one in gradients if one is None or one.device.type != "meta"] == []


def test_the_command_trains_on_a_device(tmp_path: Path) -> None:
    settings = [part for one in (*FEW, "optimizer.steps=2") for part in ("--set", one)]
    result = run("train", TINY, "--output", tmp_path / "run", "--device", "cuda", *settings)
    assert result.exit_code == 0
    assert "Trained 2 steps in " in result.stderr
    load_checkpoint(tmp_path / "run")


def test_a_device_that_is_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("causalrn.model.device._has_gpu", lambda: False)
    monkeypatch.delenv("TRITON_INTERPRET")
    message = refusal("train", TINY, "--output", tmp_path / "run", "--device", "cuda")
    assert message.startswith("--device: torch finds no GPU that it can use; take the device cpu")
    assert not (tmp_path / "run").exists()
