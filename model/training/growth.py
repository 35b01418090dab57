"""Larger decoders that begin where smaller ones ended."""

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from model.config import ModelConfig
from model.decoder import Decoder
from model.mixers.base import RelationMixer
from model.ops.positions import RECALL, SOURCE

_GROWING = "mixers", "shift_width", "recall", "recall_layers", "recall_shift_width"


def can_grow(start: ModelConfig, config: ModelConfig) -> bool:
    """Whether a decoder of one shape can be made into one of another.

    It may gain layers in front of its own, taps of the token shift, and turns of recall. Its first
    layers may become layers for recall alone, and the others then lose taps.
    """
    same = {name: getattr(config, name) for name in _GROWING}
    return (
        replace(start, **same) == config
        and config.mixers[-start.n_layer :] == start.mixers
        and min(start.shift_width, config.shift_width) > 1
        and config.match_width >= start.match_width
        and config.recall >= start.recall
        and config.recall_layers >= start.recall_layers
    )


def grow(start: Decoder, decoder: Decoder) -> None:
    """Load a decoder into one that may be larger.

    New taps are zeros, and turns of recall begin in the phase of sources. New layers start out
    looking for content and write a little of what they find (`RelationMixer.match_content`); but
    for that both compute the same.

    Args:
        start: as it was trained.
        decoder: with initial parameters, replaced in place.

    Raises:
        ValueError: `can_grow` says no.
    """
    if not can_grow(start.config, decoder.config):
        raise ValueError("the one decoder cannot be grown into the other")
    n_new = decoder.config.n_layer - start.config.n_layer
    parts: list[tuple[nn.Module, nn.Module]] = [
        (decoder.embedding, start.embedding),
        (decoder.classifier, start.classifier),
        *zip(list(decoder.mixers)[n_new:], start.mixers, strict=True),
    ]
    with torch.no_grad():
        for part, known in parts:
            tensors = known.state_dict()
            for name, tensor in part.state_dict().items():
                _fill(tensor, tensors[name])
        if decoder.config.recall and not start.config.recall:
            phases = decoder.embedding.phase.weight
            phases[RECALL] = phases[SOURCE]  # so that a recall matches what it recalls
        for mixer in cast(list[RelationMixer], list(decoder.mixers)[:n_new]):
            mixer.match_content(decoder.embedding.token.weight, decoder.classifier.weight)


def _fill(tensor: Tensor, known: Tensor) -> None:
    """Copy a tensor into one with more or fewer rows or taps; what is new becomes zeros."""
    tensor.zero_()
    both = tuple(slice(min(sizes)) for sizes in zip(tensor.shape, known.shape, strict=True))
    tensor[both] = known[both]
