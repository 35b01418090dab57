"""This project's models that stand beside peers: of the same width and depth, random weights."""

from pathlib import Path
from typing import Any

import torch
from pydantic import ByteSize

from causalrn.model.blueprint import SPECIALS
from causalrn.model.checkpoint import Checkpoint, save_checkpoint
from causalrn.model.config import ModelConfig
from causalrn.model.decoder import Decoder
from causalrn.model.tasks.copying import Copying, CopyingParams
from causalrn.model.tokenizers.byte import ByteTokenizer
from causalrn.server.engine.engine import Engine
from causalrn.server.engine.storage import pool_bytes
from causalrn.server.settings import Settings

WIDTH = 192
VOCAB_SIZE = ByteTokenizer.vocab_size

_RELATION: dict[str, Any] = {"d_relation": WIDTH, "shift_width": 4}
RELATIONS: dict[str, dict[str, Any]] = {
    "dense": _RELATION,
    "keyed": _RELATION | {"d_value": 64, "silent_values": True},
}
"""Parameters of a block's mixer, by name: the paper's form with D = R, and one with keys."""

_MOST_TOKENS = 16_384
_PAGE_SIZE = 64


def config(relation: str, n_layers: int, mlp: int = 0) -> ModelConfig:
    """The shape of a decoder.

    Args:
        relation: key of `RELATIONS`.
        n_layers: blocks.
        mlp: channels of the channel MLP in each block; 0 for none.
    """
    tokenizer = ByteTokenizer()
    block: dict[str, Any] = {"mixer": "normalized", "params": RELATIONS[relation]}
    if mlp:
        block["mlp"] = {"width": mlp}
    return ModelConfig.from_dict(
        {name: getattr(tokenizer, name) for name in SPECIALS}
        | {
            "d_model": WIDTH,
            "blocks": [block] * n_layers,
            "positions": "coupled",
            "d_position": 64,
            "max_seq_len": _MOST_TOKENS,
        }
    )


def count_parameters(shape: ModelConfig) -> int:
    """Parameters of a decoder of that shape."""
    with torch.device("meta"):
        return sum(tensor.numel() for tensor in Decoder(shape).parameters())


def token_bytes(decoder: Decoder) -> int:
    """Bytes that a decoder's pool takes for one token."""
    return sum(tensor.n_bytes for spec in decoder.specs for tensor in spec.pool)


def filled_config(relation: str, n_layers: int, n_parameters: int) -> ModelConfig:
    """The shape of a decoder whose MLPs are as wide as it takes to have so many parameters."""
    none, one, two = (count_parameters(config(relation, n_layers, mlp)) for mlp in (0, 1, 2))
    width = 1 + round((n_parameters - one) / (two - one))
    if width < 1:
        raise ValueError(f"without an MLP, it has {none:,} parameters already")
    return config(relation, n_layers, width)


def save_random(folder: Path, shape: ModelConfig) -> None:
    """Save a checkpoint of that shape with random weights."""
    torch.manual_seed(0)
    tokenizer = ByteTokenizer()
    task = Copying(CopyingParams(), tokenizer, shape)
    save_checkpoint(folder, Decoder(shape), tokenizer, task)


def engine_for(checkpoint: Checkpoint, n_sequences: int, n_tokens: int) -> Engine:
    """An engine whose pool holds so many sequences of so many tokens, and as many old ones."""
    n_pages = 2 * n_sequences * (-(-n_tokens // _PAGE_SIZE) + 1)
    return Engine(
        checkpoint,
        Settings(
            checkpoint=(checkpoint.path,),
            page_size=_PAGE_SIZE,
            max_running=n_sequences,
            pool_bytes=ByteSize(
                pool_bytes(
                    checkpoint,
                    page_size=_PAGE_SIZE,
                    n_slots=n_sequences,
                    n_pages=n_pages,
                    n_drafting=n_sequences,
                )
            ),
        ),
    )
