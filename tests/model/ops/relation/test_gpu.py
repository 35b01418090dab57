"""The relations on a device, interpreted: beside the float64 reference, in any chunking."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.backends.gpu_batch import DeviceBatch
from model.ops.relation import gpu, gpu_separable, reference
from model.state import RaggedBatch

EPS = float(np.float32(1e-6))
N_SEQUENCES, HEADS = 2, 2
CPU = torch.device("cpu")


def _inputs(length: int, k: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, N_SEQUENCES, length, HEADS, k, generator=generator)
    b[:, ::3] = -a[:, ::3] * 1.001  # some pairs nearly cancel
    b[:, ::6] += 7.0  # and all that half of them leave is a mean
    return a, b


def _batches(length: int, page_size: int, rng: np.random.Generator):  # type: ignore[no-untyped-def]
    """Chunks of the sequences, some of them at a time, and which tokens these are."""
    n_tables = -(-length // page_size)
    pages = rng.permutation(N_SEQUENCES * n_tables).astype(np.int32).reshape(N_SEQUENCES, -1)
    done = np.zeros(N_SEQUENCES, np.int64)
    while (done < length).any():
        waiting = np.flatnonzero(done < length)
        chosen = rng.permutation(waiting)[: rng.integers(1, len(waiting) + 1)]
        counts = np.array([rng.integers(1, length - done[s] + 1) for s in chosen])
        spans = [(s, slice(done[s], done[s] + n)) for s, n in zip(chosen, counts, strict=True)]
        nothing = np.zeros(counts.sum(), np.int64)
        batch = RaggedBatch(
            token_ids=nothing,
            starts=np.cumsum([0, *counts]),
            context_lens=done[chosen],
            slots=chosen,
            block_tables=pages[chosen],
        )
        yield DeviceBatch(batch, nothing[:0], nothing, nothing, nothing, CPU), spans
        done[chosen] += counts


def _normalized(
    a: Tensor, b: Tensor, page_size: int, seed: int, segment: int = gpu.SEGMENT
) -> Tensor:
    length, k = a.shape[1], a.shape[3]
    channels = 1 << (k - 1).bit_length()
    n_pages = N_SEQUENCES * -(-length // page_size)
    pool = torch.full((n_pages, HEADS, page_size, k), float("nan"))
    out = torch.full_like(a, float("nan"))
    for batch, spans in _batches(length, page_size, np.random.default_rng(seed)):
        new_a, new_b = (torch.cat([x[s, span] for s, span in spans]) for x in (a, b))
        n, each = batch.n_rows, batch.block_tables.shape[1]
        gpu.append[(n, HEADS)](
            new_b, batch.owners, batch.places, batch.block_tables, pool, each, HEADS, page_size, k,
            CHANNELS=channels,
        )  # fmt: skip
        partials = torch.full((-(-batch.longest // segment), n, HEADS * k), float("nan"))
        gpu.relate[(len(batch.tiles), HEADS, len(partials))](
            new_a, batch.tiles, batch.block_tables, pool, partials, n, each, HEADS, page_size, k,
            EPS, CHANNELS=channels, READERS=gpu.READERS, SEGMENT=segment,
            **gpu.run_of(channels),
        )  # fmt: skip
        made = torch.full((n, HEADS * k), float("nan"))
        gpu.combine[(n, HEADS)](
            partials, batch.places, batch.phases, made, n, HEADS, k, -1, CHANNELS=channels,
            SEGMENT=segment,
        )  # fmt: skip
        _put(made, spans, out)
    return out


def _separable(a: Tensor, b: Tensor, seed: int) -> Tensor:
    k = a.shape[3]
    channels = 1 << (k - 1).bit_length()
    sums = torch.zeros(N_SEQUENCES, HEADS * k, dtype=torch.float64)
    out = torch.full_like(a, float("nan"))
    for batch, spans in _batches(a.shape[1], 16, np.random.default_rng(seed)):
        new_a, new_b = (torch.cat([x[s, span] for s, span in spans]) for x in (a, b))
        for rows in (new_a, new_b):
            gpu_separable.exponentiate[(batch.n_rows * HEADS,)](rows, k, EPS, CHANNELS=channels)
        made = torch.full((batch.n_rows, HEADS * k), float("nan"))
        gpu_separable.scan[(len(spans), 1)](
            new_a, new_b, batch.starts, batch.context_lens, batch.slots, batch.state_tables, sums,
            made, batch.state_tables.shape[1], 16, HEADS * k, CHANNELS=channels * HEADS,
        )  # fmt: skip
        _put(made, spans, out)
    return out


def _put(made: Tensor, spans: list[tuple[int, slice]], out: Tensor) -> None:
    counts = [span.stop - span.start for _, span in spans]
    for (s, span), part in zip(spans, made.split(counts), strict=True):
        out[s, span] = part.view(out[s, span].shape)


def _error(got: Tensor, expected: Tensor) -> float:
    """The largest of any row, as a share of the row's largest number."""
    worst = (got - expected).abs().amax(-1) / expected.abs().amax(-1)
    return float(worst.max())


@settings(max_examples=12)
@given(
    st.integers(1, 70), st.sampled_from([1, 2, 24, 63]), st.sampled_from([16, 64]),
    st.integers(0, 10**6),
)  # fmt: skip
def test_normalized(length: int, k: int, page_size: int, seed: int) -> None:
    a, b = _inputs(length, k, seed)
    got = _normalized(a, b, page_size, seed)
    assert _error(got, reference.normalized_relation(a, b, EPS)) < 4e-6
    other = _normalized(a, b, page_size, seed + 1)
    assert torch.equal(got, other)


def test_normalized_over_several_segments() -> None:
    a, b = _inputs(140, 257, 0)
    got = _normalized(a, b, 64, 0, segment=64)
    assert _error(got, reference.normalized_relation(a, b, EPS)) < 4e-6
    assert torch.equal(got, _normalized(a, b, 16, 1, segment=64))


@pytest.mark.parametrize(("length", "k"), [(1, 1), (50, 2), (300, 63)])
def test_separable(length: int, k: int) -> None:
    a, b = _inputs(length, k, length)
    got = _separable(a, b, 0)
    assert _error(got, reference.separable_relation(a, b, EPS)) < 2e-6
    assert torch.equal(got, _separable(a, b, 1))
