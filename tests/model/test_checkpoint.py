"""Checkpoints: saved and loaded bit for bit, and every broken one refused by name."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from causalrn.model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from causalrn.model.decoder import Decoder
from causalrn.model.tokenizers.alphabet import LetterTokenizer
from causalrn.model.tokenizers.byte import ByteTokenizer
from tests.model.tiny import random_checkpoint, tiny_config, tiny_task

ROOT = Path(__file__).parents[2]
Tensors = dict[str, Tensor]
NAME = "mixers.1.reader.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound checkpoint, for tests to break."""
    random_checkpoint(tmp_path / "sound")
    return tmp_path / "sound"


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    return str(caught.value)


def change_config(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    file = folder / "config.json"
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))


def change_weights(folder: Path, change: Callable[[Tensors], None]) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), LetterTokenizer()])
@pytest.mark.parametrize(
    "positions", [{}, {"positions": "learned", "d_position": 0, "max_seq_len": 50}]
)
def test_saved_and_loaded(
    tmp_path: Path, tokenizer: ByteTokenizer | LetterTokenizer, positions: dict[str, Any]
) -> None:
    config = tiny_config(tokenizer.name, norm_eps=0.0, **positions)
    decoder = Decoder(config)
    task = tiny_task(config, tokenizer.name)
    save_checkpoint(tmp_path / "new" / "mine", decoder, tokenizer, task)
    loaded = load_checkpoint(tmp_path / "new" / "mine")
    assert (loaded.name, loaded.config) == ("mine", config)
    assert type(loaded.tokenizer) is type(tokenizer)
    assert (type(loaded.task), loaded.task.params) == (type(task), task.params)
    expected = decoder.state_dict()
    found = loaded.decoder.state_dict()
    assert expected.keys() == found.keys()
    assert all(expected[name].equal(found[name]) for name in expected)
    assert not loaded.decoder.training
    assert not any(parameter.requires_grad for parameter in loaded.decoder.parameters())
    data = (loaded.path / "model.safetensors").read_bytes()
    assert loaded.fingerprint == hashlib.sha256(data).hexdigest()
    assert sorted(file.name for file in loaded.path.iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def test_the_same_weights_make_the_same_file(folder: Path, tmp_path: Path) -> None:
    loaded = load_checkpoint(folder)
    save_checkpoint(tmp_path / "again", loaded.decoder, loaded.tokenizer, loaded.task)
    assert load_checkpoint(tmp_path / "again").fingerprint == loaded.fingerprint


def test_a_path_may_be_text_and_relative(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    loaded = load_checkpoint("sound")
    assert (loaded.name, loaded.path) == ("sound", folder)


def test_loading_draws_no_random_numbers(folder: Path) -> None:
    before = torch.random.get_rng_state()
    load_checkpoint(folder)
    assert torch.random.get_rng_state().equal(before)


def test_no_folder(tmp_path: Path) -> None:
    assert f"{tmp_path}/absent: no such folder" in refusal(tmp_path / "absent")


def test_a_file_is_no_checkpoint(folder: Path) -> None:
    file = folder / "model.safetensors"
    assert f"{file}: is a file; a checkpoint is a folder" in refusal(file)


def test_a_name_that_no_file_can_have() -> None:
    assert "File name too long" in refusal(Path("x" * 5000))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert refusal(folder) == f"{folder}: not a checkpoint, {name} is missing"


@pytest.mark.parametrize("share", [0.0, 0.002, 0.02, 0.2, 0.5, 0.9, 0.9999])
def test_a_truncated_weights_file(folder: Path, share: float) -> None:
    file = folder / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    assert f"{file}: truncated or malformed" in refusal(folder)


def test_weights_with_something_after_them(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes() + b"\0")
    assert f"{file}: truncated or malformed" in refusal(folder)


def test_weights_that_claim_a_huge_header(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(b"\xff" * 8 + file.read_bytes()[8:])
    assert f"{file}: truncated or malformed" in refusal(folder)


def swap(tensors: Tensors, name: str, tensor: Tensor) -> None:
    assert name in tensors
    tensors[name] = tensor


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(NAME), f"tensor '{NAME}' is missing"),
        (lambda t: t.update(extra=torch.zeros(1)), "unexpected tensor 'extra'"),
        (
            lambda t: swap(t, NAME, torch.zeros(16, 23)),
            f"tensor '{NAME}' has shape [16, 23], config.json asks for [16, 24]",
        ),
        (
            lambda t: swap(t, NAME, torch.zeros(16 * 24)),
            f"tensor '{NAME}' has shape [384], config.json asks for [16, 24]",
        ),
        (
            lambda t: swap(t, NAME, t[NAME].half()),
            f"tensor '{NAME}' is torch.float16, expected torch.float32",
        ),
        (
            lambda t: swap(t, NAME, t[NAME].double()),
            f"tensor '{NAME}' is torch.float64, expected torch.float32",
        ),
        (
            lambda t: t[NAME][3, 4].fill_(torch.nan),
            f"tensor '{NAME}' holds values that are not finite",
        ),
        (
            lambda t: t["classifier.weight"][0, 0].fill_(-torch.inf),
            "tensor 'classifier.weight' holds values that are not finite",
        ),
    ],
)
def test_weights_of_something_else(
    folder: Path, change: Callable[[Tensors], None], message: str
) -> None:
    change_weights(folder, change)
    assert refusal(folder) == f"{folder}/model.safetensors: {message}"


@pytest.mark.parametrize(
    "text",
    ["", "{", "null garbage", "\ufeff{}", '{"model": ' + "[" * 100_000, "[" + "1" * 5000 + "]"],
)
def test_a_config_that_is_not_json(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text, encoding="utf-8")
    assert f"{folder}/config.json: not JSON: " in refusal(folder)


def test_a_config_that_is_not_utf8(folder: Path) -> None:
    (folder / "config.json").write_bytes(b'{"tokenizer": "\xff"}')
    assert f"{folder}/config.json: not JSON: " in refusal(folder)


@pytest.mark.parametrize("text", ["[]", "null", '"model"', "1"])
def test_a_config_that_is_no_object(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    assert refusal(folder) == f"{folder}/config.json: must be a JSON object"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(models={}), r"unknown key models; did you mean model\?"),
        (lambda c: c.pop("model"), "missing key model"),
        (lambda c: c.pop("tokenizer"), "missing key tokenizer"),
        (lambda c: c.pop("task"), r'missing key task, .* add "task": {"name": "copying"'),
        (lambda c: c.update(model=[]), r"model must be a table, got \[\]"),
        (lambda c: c.update(tokenizer="words"), "tokenizer: there is no tokenizer 'words'"),
        (
            lambda c: c.update(tokenizer=["letters"]),
            "tokenizer must be a name, or",
        ),
        (lambda c: c.update(task="copying"), "task must be a table, got 'copying'"),
        (lambda c: c["task"].pop("name"), "missing key task.name"),
        (lambda c: c["task"].update(name="copy"), "task.name: there is no task 'copy'; known"),
        (lambda c: c["task"].update(param={}), r"unknown key task.param; did you mean params\?"),
        (
            lambda c: c["task"]["params"].update(windows=3),
            r"unknown key task.params.windows; did you mean window\?",
        ),
        (
            lambda c: c["task"]["params"].update(window=0),
            "task.params.window must be at least 1, got 0",
        ),
        (
            lambda c: c["task"]["params"].update(recall=0.5),
            "task.params.recall needs model.recall = true",
        ),
        (
            lambda c: c["model"].update(max_seq_len=3),
            "task.params.max_length must be at most 0 for a model of max_seq_len = 3",
        ),
        (lambda c: c["model"].update(heads=1), "unknown key model.heads; known keys: "),
        (lambda c: c["model"].pop("d_model"), "missing key model.d_model"),
        (lambda c: c["model"].update(d_model="24"), "model.d_model must be a whole number"),
        (lambda c: c["model"].update(norm_eps=None), "model.norm_eps must be a number"),
        (
            lambda c: c["model"]["blocks"][1]["params"].update(n_head=0),
            "model.blocks.1.params.n_head must be above 0, got 0",
        ),
        (
            lambda c: c["model"]["blocks"][0].update(mixer="gru"),
            "model.blocks.0.mixer: there is no mixer 'gru'; known mixers: attention, "
            "linear_attention, matrix_state, normalized, pairwise, separable, taps",
        ),
        (
            lambda c: c.update(tokenizer="bytes"),
            "model: vocab_size is 29, the 'bytes' tokenizer has 259",
        ),
        (
            lambda c: c["model"].update(bos_id=1, sep_id=0),
            "model: bos_id is 1, the 'letters' tokenizer has 0",
        ),
        (
            lambda c: c["model"].update(eos_id=28),
            "model: eos_id is 28, the 'letters' tokenizer has 2",
        ),
    ],
)
def test_a_config_of_something_else(
    folder: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    change_config(folder, change)
    with pytest.raises(CheckpointError, match=f"^{folder}/config.json: {message}"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_model": 10**9}, "has shape"),  # would take exabytes if it were made
        ({"d_model": 10**30}, "no such decoder"),
    ],
)
def test_a_config_of_a_giant(folder: Path, changes: dict[str, int], message: str) -> None:
    change_config(folder, lambda config: config["model"].update(changes))
    assert message in refusal(folder)


def test_a_mixer_that_cannot_be_made_is_refused(folder: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        config["model"]["blocks"][0]["params"]["shift_channels"] = [3, 9999]

    change_config(folder, change)
    assert "shift_channels must end by d_model" in refusal(folder)


def test_a_crash_in_mid_save_leaves_the_old_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_checkpoint(folder).fingerprint

    def full_disk(*args: object) -> None:  # noqa: ARG001
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    decoder = Decoder(tiny_config())
    with pytest.raises(OSError, match="no space"):
        save_checkpoint(folder, decoder, LetterTokenizer(), tiny_task(decoder.config))
    assert load_checkpoint(folder).fingerprint == before


def test_loading_leaves_the_compiler_of_torch_alone(folder: Path) -> None:
    """It takes seconds to import, and as much memory as a small model."""
    program = f"""
import sys
from causalrn.model.checkpoint import load_checkpoint
assert load_checkpoint({str(folder)!r}).decoder
print(*({{"sympy", "torch._dynamo"}} & sys.modules.keys()))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
