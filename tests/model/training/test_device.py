"""Training on a device, interpreted, beside the CPU."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.checkpoint import load_checkpoint
from model.config import ModelConfig
from model.decoder import Decoder
from model.device import Device, DeviceError
from model.ops.norm import cpu as cpu_norm
from model.ops.norm import gpu as gpu_norm
from model.ops.norm import reference
from model.ops.relation import cpu_whole, gpu_whole
from model.ops.token_shift import cpu as cpu_token_shift
from model.training.placement import training_device
from model.training.preset import Preset, load_preset
from model.training.run import Run
from model.training.trainer import Progress, Trainer
from tests.model.command import refusal, run
from tests.model.tiny import TINY, tiny_config

pytestmark = pytest.mark.usefixtures("quick_interpreter")

# Two or three short strings a step: the interpreter takes long for each tile.
FEW = (
    "task.batch_tokens=16", "task.max_length=4", "task.max_context=10", "task.max_turns=1",
    "model.blocks.0.params.n_head=1", "model.blocks.1.params.n_head=1",
    "model.blocks.0.mlp.width=8",
)  # fmt: skip
STEPS = 6


def preset(steps: int) -> Preset:
    return load_preset(str(TINY), [*FEW, f"optimizer.steps={steps}"])


def train(
    steps: int, folder: Path, device: Device, until: int | None = None
) -> tuple[Trainer, list[Progress]]:
    """Train to the end, or be ended without a word when that many steps are done."""
    trainer = Trainer(preset(steps), Run(folder), save_every=2, device=device)
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
    expected = train(50, tmp_path / "cpu", "cpu")[1]
    for kernels in (cpu_norm, cpu_token_shift, cpu_whole):
        monkeypatch.setattr(kernels, "forward", None)  # which a device has no use for
        monkeypatch.setattr(kernels, "backward", None)
    got = train(50, tmp_path / "cuda", "cuda")[1]
    assert got[-1].loss < 0.7 * got[0].loss
    assert [now.loss for now in got] == pytest.approx([now.loss for now in expected], rel=1e-5)
    norms = [now.gradient_norm for now in expected]
    assert [now.gradient_norm for now in got] == pytest.approx(norms, rel=1e-4)
    assert [now.scores for now in got] == [now.scores for now in expected]
    cpu, cuda = (weights(tmp_path / name) for name in ("cpu", "cuda"))
    for name, tensor in cuda.items():
        torch.testing.assert_close(tensor, cpu[name], rtol=1e-4, atol=1e-5)


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
    monkeypatch.setattr(gpu_whole, "normalized_relation", lambda a, b, _: a + b)
    configs: list[ModelConfig] = [
        tiny_config(mlp_width=8),
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


def keyed() -> ModelConfig:
    return tiny_config(params={"n_head": 1, "d_value": 6}, mixers=("normalized",))


@pytest.mark.parametrize(
    ("has_gpu", "device", "config", "expected"),
    [
        (False, "auto", tiny_config(), "cpu"),
        (True, "auto", tiny_config(), "cuda"),
        (True, "auto", keyed(), "cpu"),
        (True, "cpu", tiny_config(), "cpu"),
        (True, "cuda", tiny_config(), "cuda"),
    ],
)
def test_where_a_decoder_is_trained(
    has_gpu: bool,
    device: Device,
    config: ModelConfig,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("model.device._has_gpu", lambda: has_gpu)
    assert training_device(config, device) == expected


def test_keys_are_not_for_a_device() -> None:
    with pytest.raises(DeviceError, match=r"block 0 .*'normalized'.* the CPU alone; take the dev"):
        training_device(keyed(), "cuda")


def test_the_command_trains_on_a_device(tmp_path: Path) -> None:
    settings = [part for one in (*FEW, "optimizer.steps=2") for part in ("--set", one)]
    result = run("train", TINY, "--output", tmp_path / "run", "--device", "cuda", *settings)
    assert result.exit_code == 0
    assert "Trained 2 steps in " in result.stderr
    load_checkpoint(tmp_path / "run")


def test_a_device_that_is_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.device._has_gpu", lambda: False)
    monkeypatch.delenv("TRITON_INTERPRET")
    message = refusal("train", TINY, "--output", tmp_path / "run", "--device", "cuda")
    assert message.startswith("--device: torch finds no GPU that it can use; take the device cpu")
    assert not (tmp_path / "run").exists()
