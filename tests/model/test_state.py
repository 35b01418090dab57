"""What is remembered of a sequence can be saved, copied and taken elsewhere, to the last bit."""

import os
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.memory import anonymous_bytes
from causalrn.model.config import ModelConfig
from causalrn.model.decoder import Decoder
from causalrn.model.pool_dtype import PoolDtype
from causalrn.model.state import DecoderState, LayerSpec, RaggedBatch, TensorSpec
from tests.model.tiny import tiny_config

WIDE = {"d_relation": 32}
CONFIGS = {
    "coupled": tiny_config(params=WIDE),
    "recall": tiny_config(params=WIDE, recall=True),
    "no pool": tiny_config(params=WIDE, mixers=["separable"]),
    "two pools": tiny_config(params=WIDE, mixers=["normalized", "separable", "normalized"]),
    "shifted MLPs": tiny_config(params=WIDE, mlp_width=20, mlp_shift_width=18),
    "no shift": tiny_config(params=WIDE | {"shift_width": 1}, positions="none", d_position=0),
}
PAGES = [3, 1, 4, 2, 5]
N, LENGTHS = 70, [1, 15, 16, 17, 41, 64]


DECODERS: dict[str, tuple[ModelConfig, PoolDtype]] = {
    **{name: (config, "float32") for name, config in CONFIGS.items()},
    "bfloat16": (CONFIGS["two pools"], "bfloat16"),
}


@pytest.fixture(params=DECODERS)
def decoder(request: pytest.FixtureRequest) -> Decoder:
    return make(*DECODERS[request.param])


def make(config: ModelConfig, pool_dtype: PoolDtype) -> Decoder:
    torch.manual_seed(1)
    made = Decoder(config, pool_dtype=pool_dtype).requires_grad_(False)
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
    return decoder.extend(batch, state, np.arange(end - held)).logits


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


def numbered(*shape: int) -> torch.Tensor:
    """Every element another number."""
    return torch.arange(float(np.prod(shape))).reshape(shape)


def two_pools() -> DecoderState:
    """Pages of 16 tokens of a tensor of two heads of three channels, and of one without heads."""
    layer = LayerSpec(pool=(TensorSpec("heads", (2, 3)), TensorSpec("flat", (5,), "float64")))
    return DecoderState([layer], n_pages=4, page_size=16, n_slots=1, n_rows=1, n_counters=3)


@pytest.mark.parametrize("n_tokens", [0, 1, 16, 17, 32])
def test_an_export_holds_tokens_in_order_with_their_heads_side_by_side(n_tokens: int) -> None:
    state, pages = two_pools(), [2, 0][: -(-n_tokens // 16)]
    pools = state.layers[0].pool
    for pool in pools.values():
        pool.copy_(numbered(*pool.shape))
    memory = state.export(pages, n_tokens, 0)
    kept = memory.pools[0]
    assert {name: (pool.dtype.name, pool.shape) for name, pool in kept.items()} == {
        "heads": ("float32", (n_tokens, 6)), "flat": ("float64", (n_tokens, 5))
    }  # fmt: skip
    for token in range(n_tokens):
        page, place = pages[token // 16], token % 16
        assert kept["heads"][token].tolist() == pools["heads"][page, :, place].flatten().tolist()
        assert kept["flat"][token].tolist() == pools["flat"][page, place].tolist()


@pytest.mark.parametrize("n_tokens", [0, 1, 16, 17, 32])
def test_a_load_touches_no_other_page(n_tokens: int) -> None:
    n_pages = -(-n_tokens // 16)
    state, other, pages = two_pools(), two_pools(), [3, 1][:n_pages]
    for one, value in ((state, 7.0), (other, -1.0)):
        for pool in one.layers[0].pool.values():
            pool.fill_(value)
    memory = state.export([0, 1][:n_pages], n_tokens, 0)
    other.load(pages, memory, other.row(0))
    again = other.export(pages, n_tokens, other.row(0))
    for name, pool in other.layers[0].pool.items():
        assert np.array_equal(again.pools[0][name], memory.pools[0][name])
        assert all(bool((pool[page] == -1).all()) for page in {0, 1, 2, 3} - set(pages))


@pytest.mark.parametrize("width", [1, 3])
def test_rows_for_other_pages_than_there_are_are_refused(width: int) -> None:
    with pytest.raises(ValueError, match="state_tables must have the shape of block_tables"):
        RaggedBatch(
            token_ids=np.array([3]),
            starts=np.array([0, 1]),
            context_lens=np.array([0]),
            slots=np.array([0]),
            block_tables=np.zeros((1, 2), np.int32),
            state_tables=np.zeros((1, width), np.int32),
        )


def test_a_tensor_without_an_axis_is_refused() -> None:
    with pytest.raises(ValueError, match="the tensor 'sums' must have at least one axis"):
        TensorSpec("sums", ())


def test_two_tensors_of_one_name_are_refused() -> None:
    same = TensorSpec("sums", (2,))
    with pytest.raises(ValueError, match="different names, got \\['sums', 'sums'\\]"):
        LayerSpec(pool=(same,), state=(same,))


def test_states_that_nothing_was_written_to_take_no_memory() -> None:
    layers = [LayerSpec(state=(TensorSpec("sums", (2**18,)),))]  # 1 MiB a sequence
    before = anonymous_bytes(os.getpid())
    state = DecoderState(layers, n_pages=0, page_size=16, n_slots=1, n_rows=2**10, n_counters=1)
    sums = state.layers[0].state["sums"]
    assert sums.data_ptr() % 64 == 0
    assert not sums[::341].any()
    assert anonymous_bytes(os.getpid()) - before < 2**27


def test_states_take_memory_only_where_they_are_written() -> None:
    layers = [LayerSpec(state=(TensorSpec("sums", (2**18,)),))]
    state = DecoderState(layers, n_pages=0, page_size=16, n_slots=1, n_rows=2**7, n_counters=1)
    before = anonymous_bytes(os.getpid())
    state.layers[0].state["sums"][:, 0] = 1.0  # not 2 MiB at a time, which a step would wait for
    assert anonymous_bytes(os.getpid()) - before < 2**24
