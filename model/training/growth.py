"""Larger decoders that begin where smaller ones ended."""

import torch
from torch import Tensor, nn

from model.config import BlockConfig, ModelConfig
from model.decoder import Decoder
from model.mixers.base import MatchesContent
from model.mixers.registry import MIXERS
from model.ops.positions import RECALL, SOURCE


def can_grow(start: ModelConfig, config: ModelConfig) -> bool:
    """Whether a decoder that was trained in one shape can be trained further in another.

    It may gain blocks in front of its own, which start out looking for content, and it may learn
    turns of recall. Its own blocks may grow as far as their mixers can, and may become blocks for
    recall alone; the other blocks may then lose what they did for recall.

    Args:
        start: shape of the trained decoder.
        config: shape of the decoder that it is to become.
    """
    n_new = len(config.blocks) - len(start.blocks)
    same = {"blocks": start.blocks, "recall": start.recall}
    return (
        n_new >= 0
        and config.model_copy(update=same) == start
        and config.recall >= start.recall
        and all(
            issubclass(MIXERS.find(block.mixer), MatchesContent) and block.mlp is None
            for block in config.blocks[:n_new]
        )
        and all(
            _can_become(known, block, is_relieved=any(map(_recalls_alone, config.blocks)))
            for known, block in zip(start.blocks, config.blocks[n_new:], strict=True)
        )
    )


def _recalls_alone(block: BlockConfig) -> bool:
    return block.phases == ("recall",)


def _can_become(start: BlockConfig, block: BlockConfig, *, is_relieved: bool) -> bool:
    """Whether a block can become another; it is relieved if other blocks take over recall."""
    may_lose = is_relieved and not _recalls_alone(block)
    return (
        start.mixer == block.mixer
        and start.mlp == block.mlp
        and start.phases in (None, block.phases)
        and block.phases in (start.phases, ("recall",))
        and MIXERS.find(block.mixer).can_grow(start.params, block.params, may_lose=may_lose)
    )


def grow(start: Decoder, decoder: Decoder) -> None:
    """Copy the parameters of a decoder into one that may be larger.

    What is new in a block is zeros, and tokens of a recall start out with the vector of the phase
    of sources. New blocks start out looking for content, and write a little of what they find.
    Apart from that, both decoders compute the same.

    Args:
        start: the trained decoder.
        decoder: a new one; its parameters are replaced in place.

    Raises:
        ValueError: `can_grow` says no.
    """
    if not can_grow(start.config, decoder.config):
        raise ValueError("the one decoder cannot be grown into the other")
    n_new = len(decoder.blocks) - len(start.blocks)
    parts: list[tuple[nn.Module, nn.Module]] = [
        (decoder.embedding, start.embedding),
        (decoder.classifier, start.classifier),
    ]
    for block, known in zip(decoder.blocks[n_new:], start.blocks, strict=True):
        parts.append((block.mixer, known.mixer))
        if block.mlp is not None and known.mlp is not None:
            parts.append((block.mlp, known.mlp))
    with torch.no_grad():
        for part, trained in parts:
            tensors = trained.state_dict()
            for name, tensor in part.state_dict().items():
                _fill(tensor, tensors[name])
        if decoder.config.recall and not start.config.recall:
            phases = decoder.embedding.phase.weight
            phases[RECALL] = phases[SOURCE]  # so that a recall matches what it recalls
        for block in decoder.blocks[:n_new]:
            assert isinstance(block.mixer, MatchesContent)
            block.mixer.match_content(decoder.embedding.token.weight, decoder.classifier.weight)


def _fill(tensor: Tensor, known: Tensor) -> None:
    """Copy a tensor into one with more or fewer rows or taps; what is new becomes zeros."""
    tensor.zero_()
    both = tuple(slice(min(sizes)) for sizes in zip(tensor.shape, known.shape, strict=True))
    tensor[both] = known[both]
