"""`forward` equals `extend`, whatever the mixers, the positions and the chunks."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from causalrn.model.config import ModelConfig
from causalrn.model.decoder import Decoder
from causalrn.model.mixers.normalized import NormalizedParams, NormalizedRelation
from causalrn.model.ops.norm import norm
from causalrn.model.state import DecoderState, RaggedBatch
from tests.model.tiny import tiny_config

SMALL: dict[str, Any] = {
    "vocab_size": 20, "bos_id": 17, "sep_id": 18, "eos_id": 19, "max_seq_len": 300
}  # fmt: skip
WIDE = {"d_relation": 32}
POSITIONS: dict[str, dict[str, Any]] = {
    "coupled": {"params": WIDE},
    "learned": {"params": WIDE, "positions": "learned", "d_position": 0},
    "none": {
        "params": WIDE | {"shift_width": 1, "n_head": 1}, "positions": "none", "d_position": 0
    },
    "recall": {"params": WIDE, "recall": True},
    "recall block": {"params": WIDE, "recall": True, "recall_blocks": 1, "recall_shift_width": 5},
    "MLP": {"params": WIDE, "mlp_width": 37},
    "recall block with an MLP": {
        "params": WIDE, "recall": True, "recall_blocks": 1, "recall_shift_width": 2, "mlp_width": 24
    },
    "shifted MLP": {"params": WIDE, "mlp_width": 37, "mlp_shift_width": 4},
    "recall block with a shifted MLP": {
        "params": WIDE, "recall": True, "recall_blocks": 1, "recall_shift_width": 2,
        "mlp_width": 24, "mlp_shift_width": 19,
    },
}  # fmt: skip


def make_config(positions: str = "coupled", **changes: Any) -> ModelConfig:
    return tiny_config(**(SMALL | POSITIONS[positions] | changes))


CONFIG = make_config()


def _decoder(config: ModelConfig, seed: int) -> Decoder:
    torch.manual_seed(seed)
    decoder = Decoder(config)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.mul_(4)  # far from the small initial values, so that layers matter
    return decoder.requires_grad_(False)


def _token_ids(config: ModelConfig, n: int, length: int, rng: np.random.Generator) -> np.ndarray:
    """Random tokens with a turn or two in them."""
    ids = rng.integers(0, 17, (n, length))
    ids[:, 0] = config.bos_id
    for row in ids:
        row[rng.integers(length)] = config.sep_id
        row[rng.integers(length)] = config.bos_id
        if config.recall:
            begin = rng.integers(length)
            row[begin : begin + 2] = [config.bos_id, config.sep_id][: length - begin]
    return ids


mixers = st.lists(
    st.sampled_from(["normalized", "separable", "attention", "linear_attention"]),
    min_size=1,
    max_size=3,
)


@settings(max_examples=40)
@given(mixers, st.sampled_from(sorted(POSITIONS)), st.integers(1, 257), st.integers(0, 10**6))
def test_forward_equals_extend(names: list[str], positions: str, length: int, seed: int) -> None:
    config = make_config(positions, mixers=names)
    _check_chunks(_decoder(config, seed), length, seed)


def _is_keyed(params: dict[str, Any]) -> bool:
    if params["tolerance"] and not params["tells_match"]:
        return False
    return bool(params["d_value"] < 32 or params["temperature"] > 1 or params["recency"] > 0)


keyed_params: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "d_value": st.integers(1, 32),
        "temperature": st.sampled_from([1.0, 3.5]),
        "recency": st.sampled_from([0.0, 2.0]),
        "silent_values": st.booleans(),
        "tied_keys": st.booleans(),
        "tells_match": st.booleans(),
        "tolerance": st.sampled_from([0.0, 1.5]),
        "shift_width": st.sampled_from([1, 2, 7]),
        "shift_channels": st.sampled_from([None, [3, 14], [16, 24]]),
        "within_turn": st.booleans(),
    }
).filter(_is_keyed)


@settings(max_examples=40)
@given(
    keyed_params,
    st.sampled_from([None, ["recall"], ["output", "recall"]]),
    st.booleans(),
    st.sampled_from([1, 15, 63, 257, 700]),
    st.integers(0, 10**6),
)
def test_forward_equals_extend_with_keys(
    params: dict[str, Any], phases: list[str] | None, balanced: bool, length: int, seed: int
) -> None:
    keyed = {"mixer": "normalized", "params": {"d_relation": 32} | params, "phases": phases}
    plain = {"mixer": "separable", "params": {"d_relation": 16, "shift_width": 3}}
    config = make_config(blocks=[keyed, plain, keyed], recall=True, balanced_places=balanced)
    _check_chunks(_decoder(config, seed), length, seed)


@settings(max_examples=30)
@given(
    st.sampled_from(["pair", "separate", "none"]),
    st.sampled_from(["exp", "elu", "relu", "gelu", "poly_relu", "poly_norm"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1, 63, 257, 600]),
    st.integers(0, 10**6),
)
def test_forward_equals_extend_in_other_forms(
    normalization: str, activation: str, learns: bool, normalizes: bool, length: int, seed: int
) -> None:
    """In the ablations of the relation; they write little, as their outputs may be huge."""
    params = {
        "d_relation": 16, "n_head": 2, "normalization": normalization, "activation": activation,
        "learns_temperature": learns, "normalizes_output": normalizes,
    }  # fmt: skip
    config = make_config(blocks=[{"mixer": "pairwise", "params": params}] * 2)
    decoder = _decoder(config, seed)
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            if name.endswith("output.weight"):
                parameter.mul_(0.01)
    _check_chunks(decoder, length, seed)


@settings(max_examples=30)
@given(
    st.sampled_from(["delta", "add"]),
    st.integers(1, 3),
    st.sampled_from([1, 2]),
    st.booleans(),
    st.sampled_from([1, 63, 257]),
    st.integers(0, 10**6),
)
def test_forward_equals_extend_with_matrix_states(
    rule: str, n_writes: int, beta_max: int, fades: bool, length: int, seed: int
) -> None:
    params = {
        "d_key": 8, "d_value": 11, "n_head": 2, "rule": rule, "n_writes": n_writes,
        "beta_max": beta_max, "fades": fades,
    }  # fmt: skip
    config = make_config(blocks=[{"mixer": "matrix_state", "params": params}] * 2)
    _check_chunks(_decoder(config, seed), length, seed)


@settings(max_examples=10)
@given(st.sampled_from([1, 2, 9]), st.integers(1, 257), st.integers(0, 10**6))
def test_forward_equals_extend_with_taps(shift_width: int, length: int, seed: int) -> None:
    blocks = [{"mixer": "taps", "params": {"width": 33, "shift_width": shift_width}}] * 2
    _check_chunks(_decoder(make_config(blocks=blocks), seed), length, seed)


by_places: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "d_attention": st.sampled_from([4, 20, 32]),
        "n_head": st.just(2),
        "rotary": st.booleans(),
        "windows": st.none()
        | st.lists(st.sampled_from([0, 1, 5, 100, 511, 512, 513, 5000]), min_size=2, max_size=2),
    }
)
lengths = st.sampled_from([1, 63, 257, 600, 1100]) | st.integers(1, 700)


@settings(max_examples=40)
@given(by_places, st.sampled_from(["coupled", "none"]), lengths, st.integers(0, 10**6))
def test_forward_equals_extend_by_places(
    params: dict[str, Any], positions: str, length: int, seed: int
) -> None:
    config = make_config(positions, blocks=[{"mixer": "attention", "params": params}] * 2)
    _check_chunks(_decoder(config, seed), length, seed)


def _check_chunks(decoder: Decoder, length: int, seed: int) -> None:
    """Compare `forward` with `extend` of a ragged batch, in random chunks from random pages."""
    config, rng, n = decoder.config, np.random.default_rng(seed), 3
    ids = _token_ids(config, n, length, rng)
    whole = decoder(torch.from_numpy(ids))
    n_tables = -(-length // 16)
    state = decoder.new_state(n_pages=n * n_tables, page_size=16, n_slots=n)
    tables = rng.permutation(n * n_tables).astype(np.int32).reshape(n, n_tables)
    slots = rng.permutation(n)
    done = np.zeros(n, np.int64)
    while (done < length).any():
        waiting = np.flatnonzero(done < length)
        chosen = rng.permutation(waiting)[: rng.integers(1, len(waiting) + 1)]
        ends = [int(rng.integers(done[s] + 1, length + 1)) for s in chosen]
        parts = [ids[s, done[s] : end] for s, end in zip(chosen, ends, strict=True)]
        batch = RaggedBatch(
            token_ids=np.concatenate(parts),
            starts=np.cumsum([0, *map(len, parts)]),
            context_lens=done[chosen],
            slots=slots[chosen],
            block_tables=tables[chosen],
        )
        logits = decoder.extend(batch, state, np.arange(len(batch.token_ids))).logits.split(
            [len(p) for p in parts]
        )
        for s, end, got in zip(chosen, ends, logits, strict=True):
            expected = whole[s, done[s] : end]
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=2e-5)
            done[s] = end


def test_extend_returns_the_logits_after_each_last_token() -> None:
    decoder = _decoder(CONFIG, 0)
    ids = _token_ids(CONFIG, 2, 12, np.random.default_rng(0))
    batch = RaggedBatch(
        token_ids=np.concatenate([ids[0, :5], ids[1]]),
        starts=np.array([0, 5, 17]),
        context_lens=np.zeros(2, np.int64),
        slots=np.arange(2),
        block_tables=np.arange(2, dtype=np.int32)[:, None],
    )
    every = decoder.extend(
        batch, decoder.new_state(n_pages=2, page_size=16, n_slots=2), np.arange(17)
    ).logits
    last = decoder.extend(batch, decoder.new_state(n_pages=2, page_size=16, n_slots=2)).logits
    assert torch.equal(last, every[[4, 16]])


def test_a_reset_slot_and_dirty_pages_start_a_sequence_afresh() -> None:
    decoder = _decoder(CONFIG, 0)
    ids = _token_ids(CONFIG, 2, 20, np.random.default_rng(3))
    state = decoder.new_state(n_pages=2, page_size=16, n_slots=1)

    def run(row: np.ndarray) -> torch.Tensor:
        batch = RaggedBatch(
            token_ids=row,
            starts=np.array([0, len(row)]),
            context_lens=np.zeros(1, np.int64),
            slots=np.zeros(1, np.int64),
            block_tables=np.array([[1, 0]], np.int32),
        )
        return decoder.extend(batch, state, np.arange(len(batch.token_ids))).logits

    first = run(ids[0])
    state.reset_slot(0)
    run(ids[1])
    state.reset_slot(0)
    assert torch.equal(run(ids[0]), first)


def _extend(
    decoder: Decoder,
    state: DecoderState,
    ids: np.ndarray,
    done: int,
    end: int,
    slot: int,
    pages: Any,
    rows: Any = None,
) -> torch.Tensor:
    """Logits after each of the tokens `done` to `end - 1` of one sequence."""
    kept = {} if rows is None else {"state_tables": np.array([rows], np.int32)}
    batch = RaggedBatch(
        token_ids=ids[done:end],
        starts=np.array([0, end - done]),
        context_lens=np.array([done]),
        slots=np.array([slot]),
        block_tables=np.array([pages], np.int32),
        **kept,
    )
    return decoder.extend(batch, state, np.arange(end - done)).logits


@settings(max_examples=25)
@given(mixers, st.sampled_from(sorted(POSITIONS)), st.integers(1, 150), st.integers(0, 10**6))
def test_a_sequence_has_the_same_bits_alone_and_among_others_in_any_chunks(
    names: list[str], positions: str, length: int, seed: int
) -> None:
    _check_bits(_decoder(make_config(positions, mixers=names), seed), length, seed)


@settings(max_examples=25)
@given(by_places, st.sampled_from([16, 48]), lengths, st.integers(0, 10**6))
def test_places_leave_the_bits_alone(
    params: dict[str, Any], page_size: int, length: int, seed: int
) -> None:
    config = make_config("none", blocks=[{"mixer": "attention", "params": params}] * 2)
    _check_bits(_decoder(config, seed), length, seed, page_size)


def test_what_is_outside_of_all_windows_is_not_read() -> None:
    params = {"d_attention": 20, "n_head": 2, "windows": [1, 40]}
    config = make_config("none", blocks=[{"mixer": "attention", "params": params}] * 2)
    decoder = _decoder(config, 0)
    ids = _token_ids(config, 1, 620, np.random.default_rng(0))[0]
    expected, got = (_extend_over(decoder, ids, 600, spoilt) for spoilt in (0, (600 - 40) // 16))
    assert torch.equal(got, expected)


def _extend_over(decoder: Decoder, ids: np.ndarray, done: int, spoilt: int) -> torch.Tensor:
    """Logits after the tokens from `done` on, once the first pages have been filled with NaN."""
    n_pages = -(-len(ids) // 16)
    state = decoder.new_state(n_pages=n_pages, page_size=16, n_slots=1)
    _extend(decoder, state, ids, 0, done, 0, range(n_pages))
    for layer in state.layers:
        for pool in layer.pool.values():
            pool[:spoilt] = float("nan")
    return _extend(decoder, state, ids, done, len(ids), 0, range(n_pages))


def _check_bits(decoder: Decoder, length: int, seed: int, page_size: int = 16) -> None:
    """Compare a sequence alone with the same among others, in random chunks from random pages."""
    config, rng, n = decoder.config, np.random.default_rng(seed), 3
    ids = _token_ids(config, n, length, rng)
    n_tables = -(-length // 16)
    alone = decoder.new_state(n_pages=n_tables, page_size=16, n_slots=1)
    expected = _extend(decoder, alone, ids[0], 0, length, 0, range(n_tables))
    n_tables = -(-length // page_size)
    state = decoder.new_state(n_pages=n * n_tables, page_size=page_size, n_slots=n)
    tables = rng.permutation(n * n_tables).astype(np.int32).reshape(n, n_tables)
    slots, done = rng.permutation(n), np.zeros(n, np.int64)
    found = []
    while (done < length).any():
        waiting = np.flatnonzero(done < length)
        chosen = rng.permutation(waiting)[: rng.integers(1, len(waiting) + 1)]
        ends = [int(rng.integers(done[s] + 1, length + 1)) for s in chosen]
        parts = [ids[s, done[s] : end] for s, end in zip(chosen, ends, strict=True)]
        tokens = np.concatenate(parts)
        batch = RaggedBatch(
            token_ids=tokens,
            starts=np.cumsum([0, *map(len, parts)]),
            context_lens=done[chosen],
            slots=slots[chosen],
            block_tables=tables[chosen],
        )
        logits = decoder.extend(batch, state, np.arange(len(tokens))).logits
        found += [
            part
            for s, part in zip(chosen, logits.split([len(p) for p in parts]), strict=True)
            if s == 0
        ]
        done[chosen] = ends
    assert torch.equal(torch.cat(found), expected)


@pytest.mark.parametrize(
    ("positions", "names"),
    [
        *((positions, ("separable", "normalized")) for positions in sorted(POSITIONS)),
        ("coupled", ("linear_attention", "attention", "matrix_state", "taps")),
    ],
)
def test_a_row_holds_all_that_it_takes_to_go_on_from_the_end_of_a_page(
    positions: str, names: tuple[str, ...]
) -> None:
    decoder = _decoder(make_config(positions, mixers=names), 1)
    ids = _token_ids(decoder.config, 1, 70, np.random.default_rng(1))[0]
    state = decoder.new_state(n_pages=9, page_size=16, n_slots=2, n_rows=2)
    pages, rows = [3, 1, 4, 2, 5], [state.row(1), -1, -1, state.row(0), -1]
    _extend(decoder, state, ids, 0, 23, 0, pages, rows)
    first = _extend(decoder, state, ids, 23, 70, 0, pages, rows)
    for n_pages, row in ((1, 1), (4, 0)):
        state.copy_state(state.row(row), 1)
        others = [*pages[:n_pages], 6, 7, 8, 0][:5]
        second = _extend(decoder, state, ids, 16 * n_pages, 70, 1, others)
        assert torch.equal(second[max(0, 23 - 16 * n_pages) :], first[max(0, 16 * n_pages - 23) :])


@pytest.mark.parametrize("positions", ["coupled", "recall", "shifted MLP"])
def test_a_copy_of_a_sequence_goes_on_as_its_origin_does(positions: str) -> None:
    decoder = _decoder(make_config(positions), 1)
    ids = _token_ids(decoder.config, 2, 70, np.random.default_rng(2))
    state = decoder.new_state(n_pages=9, page_size=16, n_slots=2)
    _extend(decoder, state, ids[0], 0, 41, 0, [3, 1, 4, 2, 5])
    state.copy_state(0, 1)
    state.copy_page(4, 6)
    mixed = np.concatenate([ids[0, :41], ids[1, 41:]])
    _extend(decoder, state, mixed, 41, 70, 1, [3, 1, 6, 7, 8])
    origin = _extend(decoder, state, ids[0], 41, 70, 0, [3, 1, 4, 2, 5])
    fresh = decoder.new_state(n_pages=5, page_size=16, n_slots=1)
    assert torch.equal(_extend(decoder, fresh, ids[0], 0, 70, 0, range(5))[41:], origin)


@pytest.mark.parametrize("positions", sorted(POSITIONS))
def test_a_silent_block_writes_nothing(positions: str) -> None:
    decoder = _decoder(make_config(positions, mixers=["normalized", "normalized"]), 1)
    ids = _token_ids(decoder.config, 1, 40, np.random.default_rng(1))
    whole = decoder(torch.from_numpy(ids))
    decoder.blocks[1].silence()
    silenced = decoder(torch.from_numpy(ids))
    assert not torch.allclose(silenced, whole)
    with torch.no_grad():
        mixer: Any = decoder.mixers[1]
        mixer.output.weight.zero_()
        mixer.output.bias.zero_()
        if "1" in decoder.mlps:
            mlp: Any = decoder.mlps["1"]
            mlp.down.weight.zero_()
            mlp.down.bias.zero_()
    state = decoder.new_state(n_pages=3, page_size=16, n_slots=1)
    extended = _extend(decoder, state, ids[0], 0, 40, 0, range(3))
    torch.testing.assert_close(extended, silenced[0], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("phases", "compared"), [(None, 2), (["source"], 2), (["output", "recall"], 1), (["recall"], 1)]
)
def test_blocks_that_only_remember_prompts_compare_none(
    phases: list[str] | None, compared: int
) -> None:
    params = {"d_relation": 32}
    everywhere = {"mixer": "normalized", "params": params}
    blocks = [everywhere, {"mixer": "separable", "params": params}, everywhere | {"phases": phases}]
    memory = 32 + 1  # its channels and their sum
    assert Decoder(make_config(blocks=blocks, recall=True)).n_pair_numbers == compared * memory


def test_offsets_move_coupled_positions() -> None:
    decoder = _decoder(CONFIG, 0)
    ids = torch.from_numpy(_token_ids(CONFIG, 2, 10, np.random.default_rng(3)))
    at_zero = decoder(ids, torch.zeros(2, dtype=torch.int64))
    assert torch.equal(at_zero, decoder(ids))
    assert not torch.equal(decoder(ids, torch.full((2,), 7)), at_zero)


def test_learned_positions_end_with_their_table() -> None:
    decoder = _decoder(make_config("learned"), 0)
    with pytest.raises(ValueError, match="beyond the table of 300"):
        decoder(torch.zeros(1, 301, dtype=torch.int64))


def test_state_sizes_are_those_of_the_storage() -> None:
    state = _decoder(CONFIG, 0).new_state(n_pages=5, page_size=32, n_slots=7, n_rows=3)
    pools = sum(pool.nbytes for layer in state.layers for pool in layer.pool.values())
    fixed = sum(kept.nbytes for layer in state.layers for kept in layer.state.values())
    assert pools == 5 * state.bytes_per_page == 5 * 32 * (32 * 4 + 2 * 8)
    assert fixed + state.counters.nbytes == (7 + 3) * state.bytes_per_state


@pytest.mark.parametrize("page_size", [0, 8, 24])
def test_page_sizes_that_kernels_cannot_take_are_refused(page_size: int) -> None:
    with pytest.raises(ValueError, match="multiple of 16"):
        _decoder(CONFIG, 0).new_state(n_pages=1, page_size=page_size, n_slots=1)


def test_readers_can_start_out_looking_for_the_source_of_the_next_token() -> None:
    """Before any training, the best match of each output place is the token to copy."""
    relation = {"d_relation": 64, "n_head": 1}
    config = make_config(mixers=["normalized"], params=relation, d_model=96, d_position=64)
    torch.manual_seed(0)
    decoder = Decoder(config).requires_grad_(False)
    decoder.match_places()
    n = 12
    string = np.random.default_rng(0).integers(0, 17, n)
    ids = torch.from_numpy(np.array([[config.bos_id, *string, config.sep_id, *string]]))
    mixer: Any = decoder.mixers[0]
    x, _, reaches = decoder.embedding(ids)
    xa, xb = mixer.shift(norm(x, config.norm_eps), reaches)
    readers, memories = mixer.reader(xa)[0], mixer.memory(xb)[0]
    for place in range(n + 1):  # the last one looks for SEP, which tells the end
        seen = n + 2 + place
        deviations = (readers[n + 1 + place] + memories[:seen]).std(-1)
        assert deviations.argmin() == 1 + place


def test_places_cannot_be_matched_without_a_shift() -> None:
    with pytest.raises(ValueError, match="behind a token shift"):
        NormalizedRelation(NormalizedParams(d_relation=8), 24, norm_eps=0, n_blocks=1).match_places(
            8
        )
