"""Which shapes a decoder may have, and how they are read from JSON."""

import json
from typing import Any

import pytest

from causalrn.model.config import ModelConfig
from causalrn.model.validation import InvalidValueError
from tests.model.tiny import RELATION, blocks, tiny_config

_OPTIONAL = {"balanced_places", "d_position", "recall", "norm_eps"}


def test_json_and_back() -> None:
    config = tiny_config(
        norm_eps=0, recall=True, recall_blocks=1, recall_shift_width=7, mlp_width=5,
        mlp_shift_width=4,
    )  # fmt: skip
    read = ModelConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert read == config
    assert hash(read) == hash(config)
    assert isinstance(read.norm_eps, float)


def test_what_a_block_does_not_have_is_not_written() -> None:
    plain, other = tiny_config(recall=True, recall_blocks=1, recall_shift_width=7, mlp_width=5), 1
    values = plain.to_dict()["blocks"]
    assert values[0]["phases"] == ["recall"]
    assert "phases" not in values[other]
    assert "mlp" not in tiny_config().to_dict()["blocks"][0]
    assert values[0]["mlp"] == {"width": 5}
    shifted = tiny_config(mlp_width=5, mlp_shift_width=2)
    assert shifted.to_dict()["blocks"][0]["mlp"] == {"width": 5, "shift_width": 2}


def test_what_is_left_out_has_a_default() -> None:
    values = tiny_config().to_dict()
    for key in ("norm_eps", "recall"):
        del values[key]
    assert ModelConfig.from_dict(values) == tiny_config()
    assert not tiny_config().recall


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 0}, "vocab_size must be above 0, got 0"),
        ({"d_model": -1}, "d_model must be above 0, got -1"),
        ({"max_seq_len": 0}, "max_seq_len must be above 0"),
        ({"bos_id": 29}, "bos_id must be between 0 and vocab_size - 1 = 28, got 29"),
        ({"eos_id": -1}, "eos_id must be between 0"),
        ({"eos_id": 0}, "three different ids"),
        ({"blocks": []}, "blocks must be a list with something in it"),
        ({"positions": "rotary"}, "positions: input should be .*, got 'rotary'"),
        ({"d_position": 0}, "d_position must be between 1 and d_model - 1 = 23 .*, got 0"),
        ({"d_position": 24}, "d_position must be between .*, got 24"),
        ({"positions": "learned"}, "d_position must be 0 for learned positions, got 8"),
        ({"positions": "none"}, "d_position must be 0 for none positions"),
        (
            {"positions": "learned", "d_position": 0, "recall": True},
            "recall needs coupled positions, got learned",
        ),
        (
            {"recall_blocks": 1, "recall_shift_width": 3},
            "blocks.0.phases: 'recall' needs recall = true",
        ),
        ({"mlp_width": 0}, "blocks.0.mlp.width must be above 0, got 0"),
        (
            {"mlp_width": 4, "mlp_shift_width": 0},
            "blocks.0.mlp.shift_width must be above 0, got 0",
        ),
        (
            {"mlp_width": 4, "mlp_shift_width": 2.0},
            "blocks.0.mlp.shift_width must be a whole number, got 2.0",
        ),
        ({"norm_eps": -1e-9}, "norm_eps must be at least 0"),
        ({"norm_eps": 1.0}, "norm_eps must be below 1"),
        ({"norm_eps": float("nan")}, "norm_eps must be a finite number"),
    ],
)
def test_values_that_no_decoder_can_have(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        tiny_config(**changes)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"d_relation": 0}, "d_relation must be above 0"),
        ({"n_head": 0}, "n_head must be above 0"),
        ({"shift_width": 0}, "shift_width must be above 0"),
        ({"n_head": 3}, r"d_relation \(16\) must be a multiple of n_head \(3\)"),
        ({"n_head": 16}, "d_relation / n_head must be between 2 and 1900, got 1"),
        ({"d_relation": 1901, "n_head": 1}, "between 2 and 1900, got 1901"),
        ({"d_relation": 16.0}, "d_relation must be a whole number, got 16.0"),
        ({"n_heads": 2}, "n_heads; did you mean n_head?"),
    ],
)
def test_parameters_that_no_relation_can_have(params: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=rf"blocks\.0\.params.*{message}"):
        tiny_config(params=params)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_head": 3}, r": d_attention \(16\) must be a multiple of n_head \(3\)"),
        (
            {"n_head": 16, "rotary": True},
            r": rotary needs an even number of channels in each head, got 1: d_attention \(16\) "
            r"over n_head \(16\)",
        ),
        ({"rotary": 1}, r"\.rotary must be true or false, got 1"),
        ({"windows": [3]}, r": windows must have one number for each of n_head \(2\) heads, got 1"),
        ({"windows": [3, -1]}, r"\.windows\.1 must be at least 0, got -1"),
        ({"windows": [3, 1.0]}, r"\.windows\.1 must be a whole number, got 1\.0"),
    ],
)
def test_parameters_that_no_attention_can_have(params: dict[str, Any], message: str) -> None:
    block = {"mixer": "attention", "params": {"d_attention": 16, "n_head": 2} | params}
    with pytest.raises(InvalidValueError, match=rf"^blocks\.0\.params{message}$"):
        tiny_config(blocks=[block])


def test_windows_survive_json() -> None:
    params = {"d_attention": 16, "n_head": 2, "rotary": True, "windows": [3, 0]}
    config = tiny_config(blocks=[{"mixer": "attention", "params": params}])
    read = ModelConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert read == config
    assert hash(read) == hash(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_models": 2}, "unknown key d_models; did you mean d_model?"),
        ({"d_model": 24.0}, "d_model must be a whole number, got 24.0"),
        ({"d_model": True}, "d_model must be a whole number, got True"),
        ({"d_model": None}, "d_model must be a whole number, got None"),
        ({"norm_eps": "1e-6"}, "norm_eps must be a number, got '1e-6'"),
        ({"norm_eps": False}, "norm_eps must be a number, got False"),
        ({"recall": 1}, "recall must be true or false, got 1"),
        ({"recall": "true"}, "recall must be true or false, got 'true'"),
        ({"blocks": "normalized"}, "blocks must be a list, got 'normalized'"),
        ({"blocks": ["normalized"]}, "blocks.0 must be a table, got 'normalized'"),
        ({"blocks": [{"params": RELATION}]}, "missing key blocks.0.mixer"),
        (
            {"blocks": blocks("normalised", **RELATION)},
            "blocks.0.mixer: there is no mixer 'normalised'; .* 'normalized'",
        ),
        ({"blocks": [{"mixer": "normalized"}]}, "missing key blocks.0.params.d_relation"),
        (
            {"blocks": [{"mixer": "normalized", "params": 3}]},
            "blocks.0.params must be a table, got 3",
        ),
        ({"positions": ["none"]}, "positions: "),
    ],
)
def test_json_of_another_kind(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        ModelConfig.from_dict(tiny_config().to_dict() | changes)


@pytest.mark.parametrize("key", sorted(tiny_config().to_dict().keys() - _OPTIONAL))
def test_each_key_is_needed(key: str) -> None:
    values = tiny_config().to_dict()
    del values[key]
    with pytest.raises(InvalidValueError, match=f"missing key {key}"):
        ModelConfig.from_dict(values)
