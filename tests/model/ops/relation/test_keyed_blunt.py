"""Blunt keyed relations: as exact as float32 is, and the same bits however the work is cut."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.relation import KEY_BLOCK, reference
from causalrn.model.ops.relation.cpu_keyed import N_RUNS, RUN, SEGMENT, TILE, note_moments
from causalrn.model.ops.relation.cpu_keyed_blunt import MOST_BLUNT, is_blunt, new_blunt
from causalrn.model.ops.relation.cpu_keyed_blunt_lanes import (
    add_four_silent_exponentials,
    add_one_silent_exponential,
    add_three_silent_exponentials,
    add_two_silent_exponentials,
    largest_of_pairs,
)
from causalrn.model.ops.relation.cpu_keyed_pieces import put_together, read_blunt
from causalrn.model.ops.relation.keyed import keyed_relation

EPS = 1e-6
widths = st.tuples(
    st.sampled_from([0, 1, 3, 16, 37, 64, 128]), st.sampled_from([1, 2, 17, 48, 64])
).filter(lambda widths: sum(widths) > 2)
F = np.float32


@jit.kernel
def _extend(  # type: ignore[no-untyped-def]
    a_keys, a_values, b_keys, b_values, keys, values, moments, pages, first, last, d, temperature,
    out,
):  # fmt: skip
    """Rows `first` to `last - 1` of one sequence: append memories, then read those before them."""
    for _ in jit.prange(1):
        page_size = keys.shape[2]
        for v in range(first, last):
            page, place = pages[v // page_size], v % page_size
            for i in range(b_keys.shape[1]):
                keys[page, i // KEY_BLOCK, place, i % KEY_BLOCK] = b_keys[v, i]
            values[page * page_size + place] = b_values[v]
            note_moments(b_keys[v], b_values[v], 0, 0.0, moments, page, place)
        squares = np.empty((TILE, SEGMENT), np.float32)
        value_squares = np.empty((TILE, SEGMENT), np.float32)
        of_full, none = np.empty(RUN, np.float32), np.empty(0, np.float32)
        own, reaches = np.empty((1, a_keys.shape[1]), np.float32), np.zeros(last, np.int64)
        scales, unsure, sums, totals, tops = new_blunt(True, values.shape[1])
        wanted = np.ones((TILE, N_RUNS), np.bool_)
        for low in range(first, last, TILE):
            rows = np.arange(low, min(low + TILE, last))
            n_segments = (rows[-1] + SEGMENT) // SEGMENT
            bests = np.full((n_segments, rows.shape[0]), -np.inf)
            matches = np.zeros((n_segments, rows.shape[0]), np.float32)
            partials = np.empty((n_segments, rows.shape[0], values.shape[1]), np.float32)
            for segment in range(n_segments):
                read_blunt(
                    rows, 0, segment * SEGMENT, wanted, a_keys, a_values, keys, values, moments,
                    pages, reaches, none, d, temperature, EPS, squares, value_squares, of_full,
                    none, own, scales, unsure, sums, totals, tops, bests[segment], matches[segment],
                    partials[segment],
                )  # fmt: skip
            put_together(bests, matches, partials, rows, out, matches[0])


@jit.inline
def _largest(a, row, b, first, out):  # type: ignore[no-untyped-def]
    largest_of_pairs(a, row, b, first, out)


@jit.inline
def _add(n, b, first, pairs, at, stride, out, into):  # type: ignore[no-untyped-def]
    if n == 4:
        add_four_silent_exponentials(b, first, pairs, at, stride, out, into)
    elif n == 3:
        add_three_silent_exponentials(b, first, pairs, at, stride, out, into)
    elif n == 2:
        add_two_silent_exponentials(b, first, pairs, at, stride, out, into)
    else:
        add_one_silent_exponential(b, first, pairs, at, stride, out, into)


def _draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _hardest(length: int, d_key: int, d_value: int, silent: bool, seed: int) -> tuple[Tensor, ...]:
    """Readers and memories of which some nearly cancel, or leave hardly more than a mean."""
    a = _draw(1, length, d_key if silent else d_key + d_value, seed=seed)
    b = _draw(1, length, d_key + d_value, seed=seed + 1)
    b[:, ::3, : a.shape[2]] = -a[:, ::3] * 1.001
    b[:, ::6] += 7.0
    b[:, 1::5] *= 1e-3
    return a, b


def _temperature(bluntness: float, d: int) -> float:
    """The temperature that takes a relation of d channels to such a share of what is blunt."""
    return bluntness * MOST_BLUNT / (math.sqrt(d - 1) + 2)


def _options(d_value: int) -> dict[str, Any]:
    return {"d_value": d_value, "recency": 0.0, "eps": EPS}


@settings(max_examples=60)
@given(
    widths, st.integers(1, 90), st.sampled_from([0.01, 0.5, 0.999, 1.001, 1.5]), st.booleans(),
    st.integers(0, 10**6),
)  # fmt: skip
def test_pairs_that_cancel_and_means_that_dwarf_cost_no_precision(
    widths: tuple[int, int], length: int, bluntness: float, silent: bool, seed: int
) -> None:
    """On both sides of the border to relations whose pairs are all done in float64."""
    a, b = _hardest(length, *widths, silent, seed)
    tau = torch.tensor(_temperature(bluntness, sum(widths)))
    exact = reference.keyed_relation(a, b, tau, **_options(widths[1]))
    got = keyed_relation(a, b, tau, **_options(widths[1]))
    assert float(((got - exact).abs().amax(-1) / exact.amax(-1)).max()) < 1e-5


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("shift", [0.5, 1.9, 2.1, 30.0, 1e4])
def test_means_that_readers_and_memories_have_alone_do_not_count(
    silent: bool, shift: float
) -> None:
    """Their sum is little, but not what is rounded of each."""
    a, b = _draw(1, 60, 48 if silent else 80, seed=1), _draw(1, 60, 80, seed=2)
    a, b = a + shift, b - shift
    tau = torch.tensor(1.0)
    exact = reference.keyed_relation(a, b, tau, **_options(32))
    got = keyed_relation(a, b, tau, **_options(32))
    assert float(((got - exact).abs().amax(-1) / exact.amax(-1)).max()) < 3e-6


def test_wide_relations_at_the_paper_s_temperature_are_as_exact_as_the_normalized_one() -> None:
    for d_key, d_value in ((128, 64), (512, 256), (0, 768)):
        a, b = _draw(1, 50, d_key + d_value, seed=3), _draw(1, 50, d_key + d_value, seed=4)
        exact = reference.keyed_relation(a, b, torch.tensor(1.0), **_options(d_value))
        got = keyed_relation(a, b, torch.tensor(1.0), **_options(d_value))
        assert float(((got - exact).abs().amax(-1) / exact.amax(-1)).max()) < 2e-6


@settings(max_examples=25)
@given(
    widths, st.sampled_from([1, 2, 15, 16, 17, 100, SEGMENT, SEGMENT + 77]),
    st.sampled_from([16, 64]), st.booleans(), st.integers(0, 10**6),
)  # fmt: skip
def test_pages_and_chunks_change_no_bit(
    widths: tuple[int, int], length: int, page_size: int, silent: bool, seed: int
) -> None:
    (d_key, d_value), rng = widths, np.random.default_rng(seed)
    a, b = _hardest(length, *widths, silent, seed)
    tau = _temperature(rng.uniform(0.01, 1), d_key + d_value)
    expected = keyed_relation(a, b, torch.tensor(tau), **_options(d_value))[0].numpy()
    n_blocks, n_pages = -(-d_key // KEY_BLOCK), -(-length // page_size)
    spare = np.zeros((length, n_blocks * KEY_BLOCK - d_key), F)
    a_keys, b_keys = (np.concatenate([x[0, :, :d_key].numpy(), spare], 1) for x in (a, b))
    a_values, b_values = (np.ascontiguousarray(x[0, :, d_key:].numpy()) for x in (a, b))
    keys = np.full((n_pages, n_blocks, page_size, KEY_BLOCK), np.nan, F)
    values = np.full((n_pages * page_size, d_value), np.nan, F)
    moments = np.full((n_pages, 4, page_size), np.nan, F)
    pages = rng.permutation(n_pages).astype(np.int32)
    out = np.full((length, d_value), np.nan, F)
    done = 0
    while done < length:
        end = int(rng.integers(done + 1, length + 1))
        _extend(
            a_keys, a_values, b_keys, b_values, keys, values, moments, pages, done, end,
            d_key + d_value, float(F(tau)), out, work=1,
        )  # fmt: skip
        done = end
    assert out.tobytes() == expected.tobytes()


def test_threads_and_other_sequences_change_no_bit() -> None:
    a, b = _hardest(130, 37, 48, True, 5)
    others = _draw(2, 130, 37, seed=6), _draw(2, 130, 85, seed=7)
    tau, found, n_threads = torch.tensor(1.0), [], jit.num_threads()
    try:
        for n in {1, n_threads}:
            jit.set_num_threads(n)
            found.append(keyed_relation(a, b, tau, **_options(48)))
            together = torch.cat([others[0], a]), torch.cat([others[1], b])
            found.append(keyed_relation(*together, tau, **_options(48))[2:])
    finally:
        jit.set_num_threads(n_threads)
    assert all(torch.equal(one, found[0]) for one in found)


def test_readers_that_are_not_wanted_change_no_bit_of_the_others() -> None:
    a, b = _hardest(90, 16, 20, True, 8)
    every = keyed_relation(a, b, torch.tensor(1.0), **_options(20))
    active = torch.rand(1, 90, generator=torch.Generator().manual_seed(1)) < 0.3
    some = keyed_relation(a, b, torch.tensor(1.0), **_options(20), active=active)
    assert torch.equal(some[active], every[active])
    assert not some[~active].any()


def test_whatis_blunt() -> None:
    assert is_blunt(1.0, 0.0, 0.0, 192)
    assert is_blunt(1.0, 0.0, 0.0, 901)
    assert not is_blunt(1.0, 0.0, 0.0, 902)
    assert not is_blunt(3.0, 0.0, 0.0, 192)
    assert not is_blunt(1.0, 1e-9, 0.0, 192)
    assert not is_blunt(1.0, 0.0, 1e-9, 192)
    assert not is_blunt(-1.0, 0.0, 0.0, 192)
    assert not is_blunt(float("nan"), 0.0, 0.0, 192)


@pytest.mark.parametrize("eps", [0.0, 1e-6])
@pytest.mark.parametrize("scale", [1e-12, 1e-18, 1e-25])
def test_numbers_whose_squares_are_too_small_for_float32(scale: float, eps: float) -> None:
    a, b = _draw(1, 20, 16, seed=1) * scale, _draw(1, 20, 24, seed=2) * scale
    options = _options(8) | {"eps": eps}
    exact = reference.keyed_relation(a, b, torch.tensor(1.0), **options)
    got = keyed_relation(a, b, torch.tensor(1.0), **options)
    assert float(((got - exact).abs().amax(-1) / exact.amax(-1)).max()) < 1e-5


@pytest.mark.parametrize("k", [1, 15, 16, 40])
def test_the_largest_of_sixteen_pairs(k: int) -> None:
    rng = np.random.default_rng(k)
    a, b = rng.standard_normal((2, 30, k)).astype(F) - F(5.0)
    out = np.empty(16, F)
    _largest(a, 3, b, 7, out)
    assert out.tobytes() == (a[3] + b[7:23]).max(1).tobytes()


@pytest.mark.parametrize("k", [1, 15, 16, 40])
def test_silent_readers_add_one_pair_after_the_other(k: int) -> None:
    rng = np.random.default_rng(k)
    b, pairs = rng.standard_normal((9, k)).astype(F), rng.uniform(0.1, 2, (2, 20)).astype(F)
    for n in (1, 2, 3, 4):
        together, apart = np.ones((2, 3, k), F)
        _add(n, b, 2, pairs, 3, 20, together, 1)
        for j in range(n):
            _add(1, b, 2 + j, pairs, 3 + j, 20, apart, 1)
        assert together.tobytes() == apart.tobytes()
        expected = 1 + (
            pairs[1, 3 : 3 + n, None] * 2.0 ** (b[2 : 2 + n] * pairs[0, 3 : 3 + n, None])
        ).sum(0)
        np.testing.assert_allclose(together[1], expected, rtol=2e-6)
        assert (together[[0, 2]] == 1).all()
