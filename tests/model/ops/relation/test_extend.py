"""`extend` of both relations: equal to whole sequences, bitwise equal in any chunking."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.relation import normalized_relation, reference, separable_relation
from causalrn.model.ops.relation.cpu import (
    SEGMENT,
    accumulate,
    append,
    combine,
    new_pairs,
    new_tile,
    relate,
)
from causalrn.model.state import RaggedBatch

EPS = float(np.float32(1e-6))
N_SEQUENCES, HEADS, K = 3, 2, 24

Extend = Callable[[Tensor, Tensor, RaggedBatch], Tensor]


@jit.kernel
def _append_and_relate(  # type: ignore[no-untyped-def]
    a, b, active, starts, context_lens, block_tables, pool, totals, eps, n_parts, partials, out
):
    for s in jit.prange(context_lens.shape[0]):
        for n in range(starts[s], starts[s + 1]):
            append(b, n, context_lens[s] + n - starts[s], block_tables[s], pool, totals)
    for part in jit.prange(n_parts):
        tile, reader_totals = new_tile(pool.shape[3])
        pairs, means, dwarfed = new_pairs()
        relate(
            part, n_parts, a, active, starts, context_lens, block_tables, pool, totals, eps, tile,
            reader_totals, pairs, means, dwarfed, partials,
        )  # fmt: skip
    for s in jit.prange(context_lens.shape[0]):
        for n in range(starts[s], starts[s + 1]):
            if active[n]:
                combine(n, context_lens[s] + n - starts[s] + 1, partials, out)


@jit.kernel
def _accumulate(a, b, starts, context_lens, slots, sums, n_heads, eps, out):  # type: ignore[no-untyped-def]
    k = a.shape[1] // n_heads
    for task in jit.prange(slots.shape[0] * n_heads):
        s, i = task // n_heads, task % n_heads * k
        own = sums[slots[s], i : i + k]
        for n in range(starts[s], starts[s + 1]):
            held = context_lens[s] + n - starts[s] + 1
            accumulate(a[n, i : i + k], b[n, i : i + k], eps, own, held, out[n, i : i + k])


def _inputs(length: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, N_SEQUENCES, length, HEADS, K, generator=generator)
    b[:, ::3] = -a[:, ::3] * 1.001  # some pairs nearly cancel
    b[:, ::6] += 7.0  # and all that half of them leave is a mean
    return a, b


def _run(extend: Extend, a: Tensor, b: Tensor, page_size: int, rng: np.random.Generator) -> Tensor:
    """Feed the sequences in random chunks, some of them at each call."""
    length = a.shape[1]
    n_tables = -(-length // page_size)
    pages = rng.permutation(N_SEQUENCES * n_tables).astype(np.int32).reshape(N_SEQUENCES, -1)
    slots = rng.permutation(N_SEQUENCES)
    done = np.zeros(N_SEQUENCES, np.int64)
    out = torch.full_like(a, float("nan"))
    while (done < length).any():
        waiting = np.flatnonzero(done < length)
        chosen = rng.permutation(waiting)[: rng.integers(1, len(waiting) + 1)]
        counts = [int(rng.integers(1, length - done[s] + 1)) for s in chosen]
        spans = [(s, slice(done[s], done[s] + n)) for s, n in zip(chosen, counts, strict=True)]
        batch = RaggedBatch(
            token_ids=np.zeros(sum(counts), np.int64),
            starts=np.cumsum([0, *counts]),
            context_lens=done[chosen],
            slots=slots[chosen],
            block_tables=pages[chosen],
        )
        new_a = torch.cat([a[s, span] for s, span in spans])
        new_b = torch.cat([b[s, span] for s, span in spans])
        result = extend(new_a, new_b, batch)
        for (s, span), part in zip(spans, result.split(counts), strict=True):
            out[s, span] = part
        done[chosen] += counts
    return out


def _normalized(length: int, page_size: int, *, some: bool = False) -> Extend:
    """All readers active, or those whose first number is positive."""
    n_pages = N_SEQUENCES * -(-length // page_size)
    pool = torch.full((n_pages, HEADS, page_size, K), float("nan"))
    totals = torch.full((n_pages, HEADS, page_size, 1), float("nan"), dtype=torch.float64)

    def extend(a: Tensor, b: Tensor, batch: RaggedBatch) -> Tensor:
        out = torch.full_like(a, float("nan"))
        new_a, new_b, new_out = (x.view(len(x), -1).numpy() for x in (a, b, out))
        where = batch.starts, batch.context_lens, batch.block_tables
        longest = int((batch.context_lens + np.diff(batch.starts)).max())
        partials = np.full((-(-longest // SEGMENT), *new_a.shape), np.nan, np.float32)
        arrays = *where, pool.numpy(), totals.numpy(), np.float32(EPS), 2 * jit.num_threads()
        active = new_a[:, 0] > (0 if some else -np.inf)
        _append_and_relate(new_a, new_b, active, *arrays, partials, new_out, work=1)
        return out

    return extend


def _separable() -> Extend:
    sums = torch.zeros(N_SEQUENCES, HEADS * K, dtype=torch.float64)

    def extend(a: Tensor, b: Tensor, batch: RaggedBatch) -> Tensor:
        out = torch.full_like(a, float("nan"))
        new_a, new_b, new_out = (x.view(len(x), -1).numpy() for x in (a, b, out))
        where = batch.starts, batch.context_lens, batch.slots
        _accumulate(new_a, new_b, *where, sums.numpy(), HEADS, np.float32(EPS), new_out, work=1)
        return out

    return extend


@settings(max_examples=40)
@given(st.integers(1, 150), st.sampled_from([16, 32, 48]), st.integers(0, 10**6))
def test_normalized(length: int, page_size: int, seed: int) -> None:
    _check_normalized(length, page_size, seed)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5])
def test_readers_that_are_not_active_change_nothing(share: float) -> None:
    """Not even where all readers of a tile, of a chunk or of all sequences are not."""
    a, b = _inputs(150, 1)
    a[..., 0, 0] = -a[..., 0, 0].abs()
    is_active = torch.rand(a.shape[:2], generator=torch.Generator().manual_seed(2)) < share
    a[is_active, 0, 0] *= -1
    whole = _run(_normalized(150, 16), a, b, 16, np.random.default_rng(3))
    some = _run(_normalized(150, 16, some=True), a, b, 16, np.random.default_rng(4))
    assert some[is_active].equal(whole[is_active])
    assert some[~is_active].isnan().all()


@pytest.mark.parametrize("length", [SEGMENT - 1, SEGMENT + 1, 2 * SEGMENT + 3])
def test_pools_of_several_segments(length: int) -> None:
    _check_normalized(length, 16, length)


def _check_normalized(length: int, page_size: int, seed: int) -> None:
    a, b = _inputs(length, seed)
    rng = np.random.default_rng(seed)
    first = _run(_normalized(length, page_size), a, b, page_size, rng)
    second = _run(_normalized(length, 64), a, b, 64, rng)
    assert torch.equal(first, second)
    assert torch.equal(first, normalized_relation(a, b, EPS))
    whole = reference.normalized_relation(a, b, EPS)
    assert ((first - whole).abs() / whole).max() < 1e-5


@settings(max_examples=40)
@given(st.integers(1, 150), st.integers(0, 10**6))
def test_separable(length: int, seed: int) -> None:
    a, b = _inputs(length, seed)
    rng = np.random.default_rng(seed)
    first = _run(_separable(), a, b, 16, rng)
    assert torch.equal(first, _run(_separable(), a, b, 16, rng))
    whole = separable_relation(a, b, EPS)
    assert ((first - whole).abs() / whole).max() < 1e-5


@pytest.mark.parametrize("make", [lambda: _normalized(130, 16), _separable])
def test_neither_threads_nor_their_number_change_a_bit(
    make: Callable[[], Extend], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = _inputs(130, 1)
    rng = np.random.default_rng(1)
    threads = jit.num_threads()
    results = []
    for n_threads, least_work in ((threads, 0), (1, 0), (threads, math.inf)):
        monkeypatch.setattr(jit, "PARALLEL_WORK", least_work)
        jit.set_num_threads(n_threads)
        try:
            results.append(_run(make(), a, b, 16, rng))
        finally:
            jit.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
