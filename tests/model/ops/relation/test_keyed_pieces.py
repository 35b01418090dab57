"""What is skipped after a look at some keys would have changed nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from causalrn.model.checkpoint import load_checkpoint
from causalrn.model.config import ModelConfig
from causalrn.model.decoder import Decoder
from causalrn.model.ops.relation.cpu_keyed import SEGMENT, TILE
from causalrn.model.ops.relation.cpu_keyed_pieces import HEAD
from causalrn.model.state import RaggedBatch

CHECKPOINT = load_checkpoint(Path(__file__).parents[4] / "checkpoints" / "exact-bytes-small")
CONFIG = CHECKPOINT.config


def _twin(**changes: Any) -> Decoder:
    """A decoder whose readers say zero of values: not silent, so that it never looks."""
    return _decoder(silent_values=False, **changes)


def _decoder(**changes: Any) -> Decoder:
    """A copy of the checkpoint's decoder, with other parameters of its relations."""
    values = CONFIG.to_dict()
    for block in values["blocks"]:
        block["params"] |= changes
    decoder = Decoder(ModelConfig.from_dict(values)).requires_grad_(False)
    for name, tensor in CHECKPOINT.decoder.state_dict().items():
        own = decoder.state_dict()[name]
        own.zero_()
        own[tuple(slice(n) for n in tensor.shape)] = tensor
    return decoder


def _session(rng: np.random.Generator) -> np.ndarray:
    """Turns that copy, and turns that recall; their texts are much alike."""
    phrases = rng.integers(0, 3, (4, 12))
    ids: list[int] = []
    texts = []
    while len(ids) < 4 * SEGMENT:
        text = np.concatenate([phrases[rng.integers(4)] for _ in range(4)]).tolist()
        texts.append(text)
        ids += [CONFIG.bos_id, *text, CONFIG.sep_id, *text, CONFIG.eos_id]
        again = texts[rng.integers(len(texts))][rng.integers(20) :]
        ids += [CONFIG.bos_id, CONFIG.sep_id, *again, CONFIG.eos_id]
    return np.array(ids)


def _extend(
    decoder: Decoder, ids: np.ndarray, chunk: int
) -> tuple[torch.Tensor, list[list[float | None]]]:
    """Logits of all tokens, and what the blocks had matched after each chunk."""
    n_pages = -(-len(ids) // 64)
    state = decoder.new_state(n_pages=n_pages, page_size=64, n_slots=1)
    table = np.arange(n_pages, dtype=np.int32)[None, ::-1].copy()
    logits, matches = [], []
    for first in range(0, len(ids), chunk):
        part = ids[first : first + chunk]
        batch = RaggedBatch(
            token_ids=part,
            starts=np.array([0, len(part)]),
            context_lens=np.array([first]),
            slots=np.array([0]),
            block_tables=table,
        )
        logits.append(decoder.extend(batch, state, np.arange(len(part))).logits)
        layers = zip(decoder.blocks, state.layers, strict=True)
        matches.append([block.mixer.match(layer, 0) for block, layer in layers])
    return torch.cat(logits), matches


@pytest.mark.parametrize("temperature", [0.5, 6.0, 100.0, None])
def test_a_look_changes_nothing(temperature: float | None) -> None:
    """At the temperature of the checkpoint, and at some where many pairs count."""
    ids = _session(np.random.default_rng(0))
    looking, reading = _decoder(), _twin()
    for decoder in (looking, reading):
        for block in decoder.blocks:
            if temperature is not None:
                block.mixer.get_parameter("temperature").fill_(temperature)
    expected, matched = _extend(reading, ids, 1)
    found, told = _extend(looking, ids, 1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert told == matched
    assert len({match for match, _ in told}) > 50
    together, _ = _extend(looking, ids, 3 * TILE - 1)
    assert torch.equal(together, found)


def test_the_best_match_counts_even_where_another_memory_outweighs_it() -> None:
    """A prefix in mid-passage leaves more than one at a beginning that differs in a token."""
    rng = np.random.default_rng(1)
    decoder, twin = _decoder(tolerance=0.0), _twin(tolerance=0.0)
    for one in (decoder, twin):
        mixer, loud = one.blocks[0].mixer, 30
        # A look sees nearly all, so that it may well tell a reader to go by scores alone.
        mixer.get_parameter("reader.weight")[:HEAD] *= loud
        mixer.get_buffer("tap_energy")[:] *= 1 + HEAD * (loud**2 - 1) / CONFIG.d_position
    n_outweighed = 0
    for _ in range(20):
        prefix, (wrong, right) = rng.integers(0, 256, 8).tolist(), rng.integers(0, 256, 2).tolist()
        filler = rng.integers(0, 256, SEGMENT).tolist()
        beginning = [int(rng.integers(256)), *prefix[1:], wrong]
        ids: list[int] = []
        for text in (beginning, filler, [*filler[:9], *prefix, right], filler):
            ids += [CONFIG.bos_id, *text, CONFIG.sep_id]
        ids += [CONFIG.bos_id, CONFIG.sep_id, *prefix]
        logits, told = _extend(decoder, np.array(ids), len(ids))
        expected, matched = _extend(twin, np.array(ids), len(ids))
        assert told == matched
        assert told[-1][0] is not None
        found = int(logits[-1].argmax())
        assert found == int(expected[-1].argmax())
        n_outweighed += found == wrong and told[-1][0] > 0.5
    assert n_outweighed > 0
