"""A pool of bfloat16 gives what a pool of float32 with the same rounded numbers gives, bit by bit.

Apart from that, it keeps the promises that other pools keep.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from causalrn.model.checkpoint import load_checkpoint
from causalrn.model.config import ModelConfig
from causalrn.model.decoder import Decoder
from causalrn.model.ops.cpu import jit
from causalrn.model.ops.relation.cpu import SEGMENT, new_pairs, new_tile, relate
from causalrn.model.ops.relation.cpu_keyed import N_RUNS, RUN, TILE, new_full
from causalrn.model.ops.relation.cpu_keyed_blunt import is_blunt, new_blunt
from causalrn.model.ops.relation.cpu_keyed_pieces import look, read, read_blunt
from causalrn.model.pool_dtype import POOL_DTYPES, PoolDtype
from causalrn.model.runner import Runner
from causalrn.model.state import DecoderState, RaggedBatch
from tests.model.tiny import tiny_config

CHECKPOINT = Path(__file__).parents[4] / "checkpoints" / "exact-bytes"
LENGTH = 300
TURN = LENGTH // 2  # tokens that the output copies
F = np.float32
KEYED = {"d_relation": 40, "shift_width": 3, "d_value": 20}
RELATIONS: dict[str, dict[str, Any]] = {
    "normalized": {"d_relation": 40, "n_head": 2, "shift_width": 3},
    "wide": {"d_relation": 64, "n_head": 1, "shift_width": 1},
    "blunt": KEYED,
    "blunt and silent": KEYED | {"silent_values": True},
    "sharp": KEYED | {"temperature": 50.0},
    "sharp, silent and tied": KEYED
    | {"temperature": 50.0, "silent_values": True, "tied_keys": True, "recency": 1.0},
    "telling and tied": KEYED
    | {"temperature": 50.0, "silent_values": True, "tells_match": True, "tied_keys": True},
    "tolerant": KEYED
    | {"temperature": 50.0, "silent_values": True, "tells_match": True, "tolerance": 1.5},
}  # fmt: skip


def _decoder(relation: str, pool_dtype: PoolDtype, seed: int = 0, n_blocks: int = 1) -> Decoder:
    block = {"mixer": "normalized", "params": RELATIONS[relation]}
    config: ModelConfig = tiny_config(blocks=[block] * n_blocks, max_seq_len=2 * LENGTH)
    torch.manual_seed(seed)
    made = Decoder(config, pool_dtype=pool_dtype).requires_grad_(False)
    for name, parameter in made.named_parameters():
        if not name.endswith("temperature"):
            parameter.mul_(4)
    return made


def _ids(seed: int) -> NDArray[np.int64]:
    ids = np.random.default_rng(seed).integers(3, 29, LENGTH)
    ids[0], ids[TURN] = 0, 1
    return ids


def _extended(
    decoder: Decoder, ids: NDArray[np.int64], chunks: list[int], pages: NDArray[np.int32]
) -> tuple[torch.Tensor, DecoderState]:
    state = decoder.new_state(n_pages=len(pages), page_size=16, n_slots=1)
    found, held = [], 0
    for n in chunks:
        batch = RaggedBatch(
            token_ids=ids[held : held + n],
            starts=np.array([0, n]),
            context_lens=np.array([held]),
            slots=np.array([0]),
            block_tables=pages[None],
        )
        found.append(decoder.extend(batch, state, np.arange(n)).logits)
        held += n
    return torch.cat(found), state


def _pages(seed: int) -> NDArray[np.int32]:
    return np.random.default_rng(seed).permutation(-(-LENGTH // 16)).astype(np.int32)


@pytest.mark.parametrize("relation", RELATIONS)
def test_what_is_written_is_rounded(relation: str) -> None:
    """In the first block, which is given the same whatever the pool is."""
    ids, pages = _ids(0), _pages(0)
    _, narrow = _extended(_decoder(relation, "bfloat16"), ids, [LENGTH], pages)
    _, wide = _extended(_decoder(relation, "float32"), ids, [LENGTH], pages)
    own, others = (one.export(pages.tolist(), LENGTH, 0).pools[0] for one in (narrow, wide))
    assert narrow.bytes_per_page < (0.85 if relation == "tolerant" else 0.6) * wide.bytes_per_page
    kept = {name: array.dtype.name for name, array in own.items()}
    names = {name for name, dtype in kept.items() if dtype == "uint16"}
    of_keyed = {"values"} if relation == "tolerant" else {"keys", "values"}
    assert names == ({"pool"} if "pool" in own else of_keyed)
    for name, array in own.items():
        expected = torch.from_numpy(others[name])
        if name in names:
            rounded = torch.from_numpy(array).view(torch.bfloat16)
            assert torch.equal(rounded.view(torch.int16), expected.bfloat16().view(torch.int16))
        elif name == "keys":
            assert torch.equal(torch.from_numpy(array), expected)


@pytest.mark.parametrize("relation", RELATIONS)
@settings(max_examples=10, deadline=None)
@given(st.data())
def test_the_same_bits_in_any_chunks_and_pages(relation: str, data: Any) -> None:
    seed = data.draw(st.integers(0, 10**6))
    decoder, ids = _decoder(relation, "bfloat16", seed, n_blocks=2), _ids(seed)
    chunks: list[int] = []
    while sum(chunks) < LENGTH:
        chunks.append(data.draw(st.integers(1, LENGTH - sum(chunks))))
    expected, _ = _extended(decoder, ids, [LENGTH], _pages(seed))
    found, _ = _extended(decoder, ids, chunks, _pages(seed + 1))
    assert torch.equal(found, expected)
    alone, _ = _extended(decoder, ids[:40], [1] * 40, _pages(seed))
    assert torch.equal(alone, expected[:40])


@pytest.mark.parametrize("relation", RELATIONS)
def test_logits_are_near_those_of_float32(relation: str) -> None:
    expected, _ = _extended(_decoder(relation, "float32"), _ids(1), [LENGTH], _pages(1))
    found, _ = _extended(_decoder(relation, "bfloat16"), _ids(1), [LENGTH], _pages(1))
    spread = float(expected.std())
    assert 0 < float((found - expected).abs().max()) < 0.1 * spread


@jit.kernel
def _relate(a, starts, held, tables, pool, totals, eps, partials):  # type: ignore[no-untyped-def]
    for _ in jit.prange(1):
        tile, reader_totals = new_tile(pool.shape[3])
        pairs, means, dwarfed = new_pairs()
        relate(
            0, 1, a, np.ones(a.shape[0], np.bool_), starts, held, tables, pool, totals, eps, tile,
            reader_totals, pairs, means, dwarfed, partials,
        )  # fmt: skip


def _wide(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype != np.uint16:
        return array
    return torch.from_numpy(array).view(torch.bfloat16).float().numpy()


@pytest.mark.parametrize("relation", ["normalized", "wide"])
@pytest.mark.parametrize("n_readers", [1, 7, 8, 29])
@pytest.mark.parametrize("shift", [0.0, 9.0])
def test_the_normalized_relation_reads_what_there_is(
    relation: str, n_readers: int, shift: float
) -> None:
    """Also pairs whose mean dwarfs their deviation, which are done in float64."""
    decoder = _decoder(relation, "bfloat16")
    pages = _pages(2)
    _, state = _extended(decoder, _ids(2), [LENGTH], pages)
    pools = state.layers[0].pool_arrays
    width = pools["pool"].shape[1] * pools["pool"].shape[3]
    a = np.random.default_rng(0).standard_normal((n_readers, width)).astype(F) + F(shift)
    out = []
    for pool in (pools["pool"], _wide(pools["pool"])):
        partials = np.zeros((-(-LENGTH // SEGMENT), *a.shape), F)
        _relate(
            a, np.array([0, n_readers]), np.array([LENGTH - n_readers]), pages[None], pool,
            pools["totals"], F(1e-6), partials, work=1,
        )  # fmt: skip
        out.append(partials)
    assert pools["pool"].dtype == np.uint16
    assert np.isfinite(out[0]).all()
    assert np.array_equal(out[0].view(np.uint32), out[1].view(np.uint32))


@jit.kernel
def _read(  # type: ignore[no-untyped-def]
    blunt, a_keys, a_values, keys, values, moments, table, energy, d, tau, recency, tolerance,
    looks, bests, matches, partials,
):  # fmt: skip
    """The last rows of a sequence, and a look at them before if they can be looked at."""
    for _ in jit.prange(1):
        n = a_keys.shape[0]
        rows, held = np.arange(n), np.int64(LENGTH - n)
        squares = np.empty((TILE, SEGMENT), np.float32)
        value_squares = np.empty((TILE, SEGMENT), np.float32)
        of_pairs, pairs = np.empty(SEGMENT, np.float32), np.empty((3, SEGMENT))
        of_full, full = np.empty(RUN, np.float32), new_full(energy)
        own, reaches = np.empty((1, a_keys.shape[1]), np.float32), np.full(n, LENGTH)
        wanted = np.ones((n, N_RUNS), np.bool_)
        scales, unsure, sums, totals, tops = new_blunt(blunt, values.shape[1])
        if blunt:
            read_blunt(
                rows, held, 0, wanted, a_keys, a_values, keys, values, moments, table, reaches,
                energy, d, tau, 1e-6, squares, value_squares, of_full, full, own, scales, unsure,
                sums, totals, tops, bests, matches, partials,
            )  # fmt: skip
            continue
        if not a_values.shape[1]:
            look(
                rows, held, 0, wanted, a_keys, a_values, keys, values, moments, table, reaches,
                energy, d, tau, 1e-6, tolerance, squares, of_pairs, of_full, full, looks[0],
                looks[1],
            )  # fmt: skip
        read(
            rows, held, 0, wanted, a_keys, a_values, keys, values, moments, table, reaches, energy,
            d, tau, recency, 1e-6, tolerance, squares, value_squares, of_pairs, of_full, pairs,
            full, own, bests, matches, partials,
        )  # fmt: skip


@pytest.mark.parametrize("relation", [name for name in RELATIONS if "d_value" in RELATIONS[name]])
@pytest.mark.parametrize("n_readers", [1, 3, 8])
@pytest.mark.parametrize("shift", [0.0, 9.0])
def test_the_keyed_relation_reads_what_there_is(
    relation: str, n_readers: int, shift: float
) -> None:
    decoder = _decoder(relation, "bfloat16")
    mixer: Any = decoder.blocks[0].mixer
    params, pages = mixer.params, _pages(3)
    _, state = _extended(decoder, _ids(3), [LENGTH], pages)
    pools = state.layers[0].pool_arrays
    rng = np.random.default_rng(0)
    a_keys = np.zeros((n_readers, pools["keys"].shape[1] * 16), F)
    a_keys[:, : params.n_keys] = rng.standard_normal((n_readers, params.n_keys)) + shift
    n_spoken = 0 if params.silent_values else params.n_values
    a_values = rng.standard_normal((n_readers, n_spoken)).astype(F) + F(shift)
    tau, d = float(params.temperature), params.d_relation
    blunt = is_blunt(tau, params.recency, params.tolerance, d)
    assert blunt == relation.startswith("blunt")
    found = []
    for keys, values in (
        (pools["keys"], pools["values"]),
        (_wide(pools["keys"]), _wide(pools["values"])),
    ):
        looks = np.zeros((2, n_readers, N_RUNS), F)
        bests, matches = np.zeros(n_readers), np.zeros(n_readers, F)
        partials = np.zeros((n_readers, params.n_values), F)
        _read(
            blunt, a_keys, a_values, keys, values.reshape(-1, params.n_values),
            pools["moments"].reshape(-1, 4, 16), pages, mixer.energy, d, tau, params.recency,
            params.tolerance, looks, bests, matches, partials, work=1,
        )  # fmt: skip
        found.append((looks, bests, matches, partials))
    assert pools["values"].dtype == np.uint16
    assert np.isfinite(found[0][3]).all()
    assert found[0][3].any()
    for one, two in zip(*found, strict=True):
        assert one.tobytes() == two.tobytes()


def test_tied_keys_that_match_still_cancel_to_the_last_bit() -> None:
    """So the copies of the default model match in full, whatever the pool is."""
    ids = np.random.default_rng(0).integers(0, 256, 60).tolist()
    found = {}
    for dtype in POOL_DTYPES:
        model = load_checkpoint(CHECKPOINT, pool_dtype=dtype)
        runner = Runner(model, [200])
        prompt = [model.config.bos_id, *ids, model.config.sep_id]
        written = runner.answer({0: prompt}, lambda _, new: len(new) <= len(ids))
        found[dtype] = written[0], runner.match(0)
        assert written[0] == [*ids, model.config.eos_id]
    assert found["bfloat16"] == found["float32"]
    assert found["bfloat16"][1] == 1.0
