"""Decoders that grow out of smaller ones."""

from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from model.config import ModelConfig
from model.decoder import Decoder
from model.mixers.normalized import NormalizedRelation
from model.ops.norm import norm
from model.training.growth import can_grow, grow
from tests.model.tiny import tiny_config


def shape(*, shift_width: int = 2, params: Any = None, **changes: Any) -> ModelConfig:
    return tiny_config(params={"shift_width": shift_width} | (params or {}), **changes)


SMALL = shape()
LAYERS: dict[str, Any] = {"mixers": ("normalized", "separable", "normalized")}
CHANGES: list[dict[str, Any]] = [
    {},
    {"shift_width": 5},
    {"recall": True},
    LAYERS,
    LAYERS | {"shift_width": 4, "recall": True},
]
SPLIT: dict[str, Any] = LAYERS | {"recall": True, "recall_blocks": 1, "recall_shift_width": 5}


def decoder(config: ModelConfig, seed: int) -> Decoder:
    """Of parameters so large that layers matter."""
    torch.manual_seed(seed)
    made = Decoder(config)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(4)
    return made


def grown(changes: dict[str, Any]) -> tuple[Decoder, Decoder]:
    small, large = decoder(SMALL, 0), decoder(shape(**changes), 1)
    grow(small, large)
    return small, large


@pytest.mark.parametrize("changes", CHANGES)
def test_what_was_learned_stays(changes: dict[str, Any]) -> None:
    """Without what new layers write, every turn that the smaller one knew gives the same."""
    small, large = grown(changes)
    for block in large.blocks[: -len(SMALL.blocks)]:
        block.silence()
    string = torch.randint(3, 29, (4, 12))
    bos, sep = (torch.full((4, 1), token) for token in (SMALL.bos_id, SMALL.sep_id))
    tokens = torch.cat([bos, string, sep, string, bos, string, sep], 1)
    torch.testing.assert_close(large(tokens), small(tokens), rtol=1e-5, atol=1e-5)


def test_a_layer_for_recall_changes_nothing_else() -> None:
    """Not a bit of the turns that the smaller one knew, though new layers are not silenced."""
    small, large = grown(SPLIT)
    string = torch.randint(3, 29, (4, 12))
    bos, sep = (torch.full((4, 1), token) for token in (SMALL.bos_id, SMALL.sep_id))
    turn = torch.cat([bos, string, sep, string], 1)
    before = torch.cat([turn, turn], 1)
    assert large(before).equal(small(before))
    recall = torch.cat([before, bos, sep, string[:, :4]], 1)
    assert large(recall)[:, : before.shape[1] + 1].equal(small(recall)[:, : before.shape[1] + 1])
    with_it = large(recall)[:, -1]
    large.blocks[0].silence()
    assert (with_it - large(recall)[:, -1]).abs().max() > 1e-3


def test_layers_lose_taps_when_one_becomes_the_layer_for_recall() -> None:
    wide = decoder(shape(**LAYERS, recall=True, shift_width=5), 0)
    split = decoder(shape(**SPLIT), 1)
    grow(wide, split)
    for layer, width in enumerate((5, 2, 2)):
        known, kept = (m.state_dict()[f"mixers.{layer}.shift.weight"] for m in (wide, split))
        assert kept.equal(known[:, :width])


def test_the_smaller_one_is_left_alone() -> None:
    small, large = grown({})
    before = {name: tensor.clone() for name, tensor in small.state_dict().items()}
    with torch.no_grad():
        for parameter in large.parameters():
            parameter.zero_()
    assert all(tensor.equal(before[name]) for name, tensor in small.state_dict().items())


@pytest.mark.parametrize("changes", CHANGES)
def test_all_of_a_grown_one_can_learn(changes: dict[str, Any]) -> None:
    _, large = grown(changes)
    strings = torch.randint(3, 29, (4, 20))
    strings[:, 0] = SMALL.bos_id
    strings[:, [10, 12]] = torch.tensor([SMALL.bos_id, SMALL.sep_id])
    strings[:, 13] = SMALL.bos_id
    strings[:, 14] = SMALL.sep_id  # a recall, or nothing to copy
    logits, targets = large(strings).flatten(0, 1), strings.roll(-1, 1).flatten()
    nn.functional.cross_entropy(logits, targets).backward()
    for name, parameter in large.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("changes", CHANGES)
def test_shapes_that_can_grow(changes: dict[str, Any]) -> None:
    assert can_grow(SMALL, shape(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"d_model": 32},
        {"params": {"d_relation": 32}},
        {"params": {"n_head": 1}},
        {"max_seq_len": 99},
        {"norm_eps": 0.0},
        {"shift_width": 1},
        {"mixers": ("normalized",)},
        {"mixers": ("normalized", "separable")},
        {"mixers": ("separable", "normalized", "normalized")},  # behind its own, not in front
    ],
)
def test_shapes_that_cannot(changes: dict[str, Any]) -> None:
    config = shape(**changes)
    assert not can_grow(SMALL, config)
    with pytest.raises(ValueError, match="cannot be grown"):
        grow(Decoder(SMALL), Decoder(config))


def test_nothing_can_be_lost() -> None:
    assert not can_grow(shape(recall=True), SMALL)
    assert not can_grow(shape(shift_width=3), SMALL)
    assert not can_grow(shape(shift_width=1), SMALL)  # nothing to put taps to
    assert can_grow(shape(recall=True), shape(recall=True, shift_width=3))
    split = shape(**SPLIT)
    assert can_grow(SMALL, split)
    assert not can_grow(split, shape(**LAYERS, recall=True, shift_width=5))
    assert not can_grow(shape(**LAYERS, recall=True, shift_width=6), split)


def wide_layer() -> tuple[Decoder, NormalizedRelation]:
    """A layer as a new one of a grown decoder begins, wide enough to tell tokens apart."""
    config = tiny_config(
        mixers=("normalized",),
        params={"d_relation": 128, "n_head": 1, "shift_width": 6},
        d_model=192,
        d_position=64,
        recall=True,
    )
    torch.manual_seed(0)
    made = Decoder(config).requires_grad_(False)
    mixer = cast(NormalizedRelation, made.mixers[0])
    mixer.match_content(made.embedding.token.weight, made.classifier.weight)
    return made, mixer


def test_readers_can_start_out_looking_for_content() -> None:
    """Where the last tokens were read before, the best match is what came next, and is written."""
    made, mixer = wide_layer()
    config = made.config
    string = np.random.default_rng(0).integers(3, 29, 60)
    for begin in (0, 17, 40):
        part = string[begin : begin + 12]
        ids = np.array([config.bos_id, *string, config.sep_id, config.bos_id, config.sep_id, *part])
        x = norm(made.embedding(torch.from_numpy(ids)[None])[0], config.norm_eps)
        assert mixer.shift is not None
        xa, xb = mixer.shift(x)
        readers, memories = mixer.reader(xa), mixer.memory(xb)
        first = len(ids) - len(part)
        for n in range(mixer.shift.weight.shape[1] - 1, len(part)):
            t = first + n - 1  # has just read n tokens of the part
            deviations = (readers[0, t] + memories[0, : t + 1]).std(-1)
            assert deviations.argmin() == 1 + begin + n
            assert (mixer(x)[0, t] @ made.classifier.weight.T)[3:].argmax() + 3 == part[n]


def test_content_cannot_be_matched_without_a_shift() -> None:
    made = Decoder(shape(shift_width=1))
    mixer = cast(NormalizedRelation, made.mixers[1])
    with pytest.raises(ValueError, match="behind a token shift"):
        mixer.match_content(made.embedding.token.weight, made.classifier.weight)
