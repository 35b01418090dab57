"""Exports, loaded and asked by `transformers` itself."""

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from causalrn.model.blueprint import SPECIALS, make_blueprint
from causalrn.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from causalrn.model.config import ModelConfig
from causalrn.model.decoder import Decoder
from causalrn.model.export.huggingface.exporting import ExportError, export
from causalrn.model.reproduction.job import Job
from causalrn.model.shipped import CHECKPOINTS
from causalrn.model.tokenizers.base import content_ids
from causalrn.model.tokenizers.registry import make_tokenizer
from tests.end_to_end.served import served
from tests.model.command import refusal, run
from tests.model.tiny import random_checkpoint, tiny_config
from tests.model.tokenizers.test_file import BYTE_LEVEL

SHIPPED = ["copy-az", "copy-bytes", "exact-bytes", "exact-bytes-small"]
OTHERS = ["transformer", "linear-transformer", "rope-transformer", "hard-alibi-transformer"]
N_PROMPTS = 20


def exported(checkpoint: Checkpoint, folder: Path) -> tuple[Any, Any]:
    """The model and the tokenizer that `transformers` has of a checkpoint."""
    export(checkpoint, folder)
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    return model, AutoTokenizer.from_pretrained(folder, trust_remote_code=True)


def framed(checkpoint: Checkpoint, rng: np.random.Generator, n: int) -> list[int]:
    ids = rng.choice([*content_ids(checkpoint.tokenizer)], n).tolist()
    return checkpoint.task.frame(ids, checkpoint.task.modes[0])


def check_logits(checkpoint: Checkpoint, folder: Path, n: int = 60) -> None:
    model, _ = exported(checkpoint, folder)
    rng = np.random.default_rng(0)
    prompt = framed(checkpoint, rng, n)
    ids = torch.tensor([[*prompt, *prompt[1 : n // 2]]])
    with torch.no_grad():
        expected, found = checkpoint.decoder(ids), model(ids).logits
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_models_have_the_same_logits(name: str, tmp_path: Path) -> None:
    check_logits(load_checkpoint(CHECKPOINTS / name), tmp_path / name)


@pytest.mark.parametrize("name", OTHERS)
def test_models_of_the_experiments_have_the_same_logits(name: str, tmp_path: Path) -> None:
    preset = Job(name, 64, 1e-3, batch=2, steps=1, layers=2, width=24, seed=1).preset()
    shape = preset.blueprint
    torch.manual_seed(0)
    decoder = Decoder(shape.config).requires_grad_(False)
    for parameter in decoder.parameters():
        parameter.normal_(std=0.3)
    save_checkpoint(tmp_path / "own", decoder, shape.tokenizer, shape.task)
    check_logits(load_checkpoint(tmp_path / "own"), tmp_path / name)


def test_convolutions_heads_and_mlps_have_the_same_logits(tmp_path: Path) -> None:
    shape: dict[str, Any] = {
        "mlp_width": 20,
        "mlp_shift_width": 3,
        "recall_blocks": 1,
        "recall_shift_width": 5,
    }
    own = random_checkpoint(tmp_path / "own", "bytes", recall=True, **shape)
    assert {block.params.model_dump()["n_head"] for block in own.config.blocks} == {2}
    check_logits(own, tmp_path / "exported")


@pytest.mark.parametrize("name", ["exact-bytes-small", "random"])
def test_greedy_continuations_are_those_of_the_server(name: str, tmp_path: Path) -> None:
    if name == "random":
        folder = random_checkpoint(tmp_path / name, "bytes").path
    else:
        folder = CHECKPOINTS / name
    checkpoint = load_checkpoint(folder)
    model, _ = exported(checkpoint, tmp_path / "exported")
    rng = np.random.default_rng(1)
    prompts = [framed(checkpoint, rng, int(rng.integers(1, 24))) for _ in range(N_PROMPTS)]
    with served(CAUSALRN_CHECKPOINT=str(folder)) as url:
        for prompt in prompts:
            body = {"token_ids": prompt, "mode": "raw", "max_tokens": 24}
            answer = httpx.post(f"{url}/generate", json=body, timeout=60).json()
            found = model.generate(torch.tensor([prompt]), max_new_tokens=24, do_sample=False)
            written = found[0, len(prompt) :].tolist()
            assert [i for i in written if i != checkpoint.config.eos_id] == answer["token_ids"]


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ("bytes", ["hello", "né 😀\n\t\0 x", " two  spaces "]),
        ("letters", ["hello"]),
        ({"name": "alphabet", "symbols": "αβγ \n"}, ["αβ γ\n γ", "α"]),
    ],
)
def test_tokenizers_have_the_same_ids(value: Any, texts: list[str], tmp_path: Path) -> None:
    own = make_tokenizer(value, Path())
    check_tokenizer(own, texts, tmp_path)


def test_a_tokenizer_of_a_file_is_that_of_the_file(tmp_path: Path) -> None:
    check_tokenizer(BYTE_LEVEL, ["the cat sat", "né 😀"], tmp_path)


def check_tokenizer(own: Any, texts: list[str], folder: Path) -> None:
    specials = {name: getattr(own, name) for name in SPECIALS}
    values = tiny_config("bytes", positions="none", d_position=0).to_dict() | specials
    config = ModelConfig.from_dict(values)
    torch.manual_seed(0)
    task = make_blueprint(own, values, "text", {"context": 8}, ("task",)).task
    save_checkpoint(folder / "own", Decoder(config), own, task)
    _, tokenizer = exported(load_checkpoint(folder / "own"), folder / "exported")
    for text in texts:
        ids = own.encode(text)
        whole = f"{tokenizer.bos_token}{text}{tokenizer.sep_token}"
        assert tokenizer(whole).input_ids == [own.bos_id, *ids, own.sep_id]
        assert tokenizer.decode(ids) == text
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (own.bos_id, own.eos_id)


def test_the_command_exports(tmp_path: Path) -> None:
    result = run("export", "copy-az", "--output", tmp_path / "out")
    assert result.exit_code == 0
    assert f"copy-az is in {tmp_path}/out, for huggingface" in result.stderr
    assert 'tokenizer("<bos>abc<sep>"' in (tmp_path / "out" / "README.md").read_text()
    assert "no such folder" in refusal("export", "copy-a")


def test_what_exports_do_not_know_is_refused(tmp_path: Path) -> None:
    preset = Job("deltanet", 8, 1e-3, batch=2, steps=1, layers=1, width=16, seed=1).preset()
    shape = preset.blueprint
    save_checkpoint(tmp_path / "own", Decoder(shape.config), shape.tokenizer, shape.task)
    with pytest.raises(ExportError, match="block 0 of own has the mixer 'matrix_state'"):
        export(load_checkpoint(tmp_path / "own"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_padding_is_refused(tmp_path: Path) -> None:
    model, _ = exported(random_checkpoint(tmp_path / "own", "letters"), tmp_path / "out")
    with pytest.raises(ValueError, match="takes no padding"):
        model(torch.tensor([[2, 0, 5]]), attention_mask=torch.tensor([[0, 1, 1]]))
