"""Which shapes a decoder may have, and how they are read from JSON."""

import json
from typing import Any

import pytest

from model.config import _OPTIONAL, ConfigError, ModelConfig
from tests.model.tiny import tiny_config


def test_json_and_back() -> None:
    config = tiny_config(norm_eps=0)
    read = ModelConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert read == config
    assert hash(read) == hash(config)
    assert isinstance(read.norm_eps, float)


def test_norm_eps_has_a_default() -> None:
    values = tiny_config().to_dict()
    del values["norm_eps"]
    assert ModelConfig.from_dict(values) == tiny_config()


def test_there_is_no_recall_by_default() -> None:
    values = tiny_config().to_dict()
    del values["recall"]
    assert not ModelConfig.from_dict(values).recall
    assert ModelConfig.from_dict(values | {"recall": True}) == tiny_config(recall=True)


def test_layers_for_recall_have_taps_of_their_own() -> None:
    config = tiny_config(recall=True, recall_layers=1, recall_shift_width=7)
    assert [config.layer_shift_width(layer) for layer in (0, 1)] == [7, 3]
    assert config.match_width == 7
    assert tiny_config(recall=True).match_width == 3
    assert ModelConfig.from_dict(config.to_dict()) == config


def test_layers_and_heads_are_counted() -> None:
    config = tiny_config()
    assert (config.n_layer, config.d_head) == (2, 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 0}, "vocab_size must be at least 1, got 0"),
        ({"d_model": -1}, "d_model must be at least 1, got -1"),
        ({"d_relation": 0}, "d_relation must be at least 1"),
        ({"n_head": 0}, "n_head must be at least 1"),
        ({"shift_width": 0}, "shift_width must be at least 1"),
        ({"max_seq_len": 0}, "max_seq_len must be at least 1"),
        ({"bos_id": 29}, "bos_id must be between 0 and vocab_size - 1 = 28, got 29"),
        ({"eos_id": -1}, "eos_id must be between 0"),
        ({"eos_id": 0}, "three different ids"),
        ({"n_head": 3}, r"d_relation \(16\) must be a multiple of n_head \(3\)"),
        ({"n_head": 16}, "d_relation / n_head must be between 2 and 1900, got 1"),
        ({"d_relation": 1901, "n_head": 1}, "between 2 and 1900, got 1901"),
        ({"mixers": ()}, "mixers must name at least one layer"),
        ({"mixers": ("attention",)}, "mixers: unknown mixer 'attention'"),
        ({"positions": "rotary"}, "positions must be one of .*, got 'rotary'"),
        ({"d_position": 0}, "d_position must be between 1 and d_model - 1 = 23 .*, got 0"),
        ({"d_position": 24}, "d_position must be between .*, got 24"),
        ({"positions": "learned"}, "d_position must be 0 for learned positions, got 8"),
        ({"positions": "none"}, "d_position must be 0 for none positions"),
        (
            {"positions": "learned", "d_position": 0, "recall": True},
            "recall needs coupled positions, got learned",
        ),
        ({"recall_layers": 1, "recall_shift_width": 3}, "recall_layers must be between 0 and 0"),
        (
            {"recall": True, "recall_layers": 3, "recall_shift_width": 3},
            "recall_layers must be between 0 and 2, got 3",
        ),
        ({"recall_layers": -1}, "recall_layers must be between 0 and 0, got -1"),
        (
            {"recall": True, "recall_layers": 1},
            "recall_shift_width must be at least 1 with recall_layers, and 0 without, got 0",
        ),
        ({"recall": True, "recall_shift_width": 3}, "recall_shift_width must be .* got 3"),
        ({"recall_shift_width": -1}, "recall_shift_width must be .* got -1"),
        ({"norm_eps": -1e-9}, "norm_eps must be at least 0"),
        ({"norm_eps": 1.0}, "norm_eps must be at least 0 and below 1"),
        ({"norm_eps": float("nan")}, "norm_eps must be at least 0"),
    ],
)
def test_values_that_no_decoder_can_have(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny_config(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_heads": 2}, "unknown key 'n_heads'; known keys: vocab_size, .*n_head"),
        ({"d_model": 24.0}, "d_model must be an integer, got 24.0"),
        ({"d_model": True}, "d_model must be an integer, got True"),
        ({"d_model": None}, "d_model must be an integer, got None"),
        ({"norm_eps": "1e-6"}, "norm_eps must be a number, got '1e-6'"),
        ({"norm_eps": False}, "norm_eps must be a number"),
        ({"recall": 1}, "recall must be true or false, got 1"),
        ({"recall": "true"}, "recall must be true or false, got 'true'"),
        ({"mixers": "normalized"}, "mixers must be a list of strings, got 'normalized'"),
        ({"mixers": ["normalized", 1]}, "mixers must be a list of strings"),
        ({"positions": ["none"]}, "positions must be a string"),
    ],
)
def test_json_of_another_kind(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_dict(tiny_config().to_dict() | changes)


@pytest.mark.parametrize("key", sorted(tiny_config().to_dict().keys() - _OPTIONAL))
def test_each_key_is_needed(key: str) -> None:
    values = tiny_config().to_dict()
    del values[key]
    with pytest.raises(ConfigError, match=f"missing key '{key}'"):
        ModelConfig.from_dict(values)
