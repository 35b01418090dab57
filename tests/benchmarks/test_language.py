import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from benchmarks.language import (
    HYBRID,
    MODELS,
    by_context,
    count,
    documents,
    measure,
    preset_of,
    train,
)
from causalrn.model.checkpoint import load_checkpoint
from causalrn.model.config import ModelConfig
from causalrn.model.decoder import Decoder
from causalrn.model.tasks.text import windows
from causalrn.model.training.preset import make_preset
from causalrn.model.training.preset_files import PresetValues


def config_of(model: str) -> ModelConfig:
    return make_preset(PresetValues(preset_of(model))).blueprint.config


def n_parameters(model: str) -> int:
    return sum(parameter.numel() for parameter in Decoder(config_of(model)).parameters())


def test_the_models_have_equal_numbers_of_parameters() -> None:
    numbers = [n_parameters(model) for model in MODELS]
    assert numbers == pytest.approx([n_parameters(HYBRID)] * 6, rel=0.005)


def test_at_most_one_layer_in_three_of_the_hybrid_keeps_a_pool() -> None:
    mixers = [block.mixer for block in config_of(HYBRID).blocks]
    assert mixers == ["separable", "separable", "normalized"] * 2


def test_groups_double() -> None:
    bits = np.arange(80.0).reshape(2, 40)
    assert by_context(bits, 0.5) == [
        {"begin": 0, "end": 16, "bits": 55.0},
        {"begin": 16, "end": 32, "bits": 87.0},
        {"begin": 32, "end": 40, "bits": 111.0},
    ]


def test_a_model_is_trained_and_measured(tmp_path: Path) -> None:
    text = np.random.default_rng(0).choice([*"abcdefgh "], 30_000)
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(10):
        (folder / f"{number}.txt").write_text("".join(text[number * 3000 :][:3000]))
    train("taps", [folder], tmp_path / "runs", 4096)
    corpus = documents("taps", [folder], tmp_path / "runs")
    checkpoint = load_checkpoint(tmp_path / "runs" / "taps")
    found = measure(checkpoint, corpus, 512)
    expected = []
    for ids in windows(corpus.validation, 512, 100):
        logits = checkpoint.decoder(torch.from_numpy(ids[None, :-1]))[0].detach()
        expected.append(cross_entropy(logits, torch.from_numpy(ids[1:])).item() / math.log(2))
    per_token = corpus.validation.bytes_per_token
    assert found["bits"] == pytest.approx(np.mean(expected) / per_token, rel=1e-4)
    assert found["second"] == pytest.approx(found["first"], rel=0.05)  # it sees less than that
    n_tails = sum(spec.state[0].n_bytes for spec in checkpoint.decoder.specs)
    assert found["session_bytes"] == {1024: n_tails, 16384: n_tails}
    bigrams = count(corpus, 2, 259, 512)["bits"]
    assert math.log2(9) < bigrams * per_token < 3.5
