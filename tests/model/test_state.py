"""What is remembered of a sequence can be saved, copied and taken elsewhere, to the last bit."""

from typing import Any

import numpy as np
import pytest
import torch

from model.config import ModelConfig
from model.decoder import Decoder
from model.state import DecoderState, RaggedBatch
from tests.model.tiny import tiny_config

WIDE = {"d_relation": 32}
CONFIGS = {
    "coupled": tiny_config(params=WIDE),
    "recall": tiny_config(params=WIDE, recall=True),
    "no pool": tiny_config(params=WIDE, mixers=["separable"]),
    "two pools": tiny_config(params=WIDE, mixers=["normalized", "separable", "normalized"]),
    "no shift": tiny_config(params=WIDE | {"shift_width": 1}, positions="none", d_position=0),
}
PAGES = [3, 1, 4, 2, 5]
N, LENGTHS = 70, [1, 15, 16, 17, 41, 64]


@pytest.fixture(params=CONFIGS)
def decoder(request: pytest.FixtureRequest) -> Decoder:
    return make(CONFIGS[request.param])


def make(config: ModelConfig) -> Decoder:
    torch.manual_seed(1)
    made = Decoder(config).requires_grad_(False)
    for parameter in made.parameters():
        parameter.mul_(4)
    return made


def new_state(decoder: Decoder) -> DecoderState:
    return decoder.new_state(n_pages=12, page_size=16, n_slots=2, n_rows=1)


def tokens(config: ModelConfig) -> np.ndarray:
    """A turn of copying, and one of recall in the middle of which most lengths end."""
    ids = np.random.default_rng(0).integers(3, 29, N)
    ids[[0, 8, 18, 40]] = config.bos_id
    ids[[4, 9, 30]] = config.sep_id
    return ids


def extend(
    decoder: Decoder, state: DecoderState, held: int, end: int, slot: int, pages: Any
) -> Any:
    """Logits after each of the tokens `held` to `end - 1`."""
    batch = RaggedBatch(
        token_ids=tokens(decoder.config)[held:end],
        starts=np.array([0, end - held]),
        context_lens=np.array([held]),
        slots=np.array([slot]),
        block_tables=np.array([pages], np.int32),
    )
    return decoder.extend(batch, state, np.arange(end - held))


@pytest.mark.parametrize("length", LENGTHS)
def test_a_kept_state_goes_on_from_a_copy_of_its_last_page(decoder: Decoder, length: int) -> None:
    state = new_state(decoder)
    extend(decoder, state, 0, length, 0, PAGES)
    n_pages = -(-length // 16)
    state.copy_state(0, state.row(0))
    state.copy_page(PAGES[n_pages - 1], 11)
    expected = extend(decoder, state, length, N, 0, PAGES)
    state.copy_state(state.row(0), 1)
    pages = [*PAGES[: n_pages - 1], 11, 6, 7, 8, 9][:5]
    assert torch.equal(extend(decoder, state, length, N, 1, pages), expected)


@pytest.mark.parametrize("length", LENGTHS)
def test_an_exported_memory_goes_on_elsewhere(decoder: Decoder, length: int) -> None:
    state, other = new_state(decoder), new_state(decoder)
    extend(decoder, state, 0, length, 0, PAGES)
    n_pages = -(-length // 16)
    memory = state.export(PAGES[:n_pages], length, 0)
    kept = [pool for layer in memory.pools for pool in layer.values()]
    assert [pool.shape for pool in kept] == [(length, 32)] * len(kept)
    expected = extend(decoder, state, length, N, 0, PAGES)
    pages, row = [9, 2, 7, 0, 10], other.row(0)
    other.load(pages[:n_pages], memory, row)
    other.copy_state(row, 1)
    again = other.export(pages[:n_pages], length, row)
    assert torch.equal(extend(decoder, other, length, N, 1, pages), expected)
    assert np.array_equal(again.counters, memory.counters)
    for one, two in zip(again.pools + again.states, memory.pools + memory.states, strict=True):
        assert one.keys() == two.keys()
        assert all(np.array_equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("length", [0, *LENGTHS])
def test_counters_follow_from_the_tokens(decoder: Decoder, length: int) -> None:
    state = new_state(decoder)
    if length:
        extend(decoder, state, 0, length, 0, PAGES)
    ids = tokens(decoder.config)[:length].tolist()
    assert decoder.counters(ids).tolist() == state.counters[0].tolist()
