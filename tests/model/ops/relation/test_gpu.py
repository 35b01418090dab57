"""The relations on a device, interpreted: beside the float64 reference, in any chunking."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from causalrn.model.backends.gpu_scratch import DeviceScratch
from causalrn.model.ops.relation import gpu, gpu_separable, reference
from tests.model.ops.relation.chunks import batches, put

pytestmark = pytest.mark.usefixtures("quick_interpreter")
EPS = float(np.float32(1e-6))
N_SEQUENCES, HEADS = 2, 2
CPU = torch.device("cpu")


def _inputs(length: int, k: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, N_SEQUENCES, length, HEADS, k, generator=generator)
    b[:, ::3] = -a[:, ::3] * 1.001  # some pairs nearly cancel
    b[:, ::6] += 7.0  # and all that half of them leave is a mean
    return a, b


def _normalized(
    a: Tensor, b: Tensor, page_size: int, seed: int, dtype: torch.dtype = torch.float32
) -> Tensor:
    length, k = a.shape[1], a.shape[3]
    n_pages = N_SEQUENCES * -(-length // page_size)
    memory = {
        name: torch.full((n_pages, HEADS, page_size, width), float("nan"), dtype=kept)
        for name, width, kept in (("pool", k, dtype), ("totals", 2, torch.float32))
    }
    out = torch.full_like(a, float("nan"))
    device = DeviceScratch(CPU)
    for device.batch, spans in batches(N_SEQUENCES, length, page_size, seed):
        new_a, new_b = (torch.cat([x[s, span] for s, span in spans]) for x in (a, b))
        made = torch.full((len(new_a), HEADS * k), float("nan"))
        gpu.relate_all(device, memory, page_size, EPS, new_a, new_b, made)
        put(made, spans, out)
    return out


def _separable(a: Tensor, b: Tensor, seed: int) -> Tensor:
    k = a.shape[3]
    sums = torch.zeros(N_SEQUENCES, HEADS * k, dtype=torch.float64)
    out = torch.full_like(a, float("nan"))
    device = DeviceScratch(CPU)
    for device.batch, spans in batches(N_SEQUENCES, a.shape[1], 16, seed):
        new_a, new_b = (torch.cat([x[s, span] for s, span in spans]).flatten(1) for x in (a, b))
        made = torch.full_like(new_a, float("nan"))
        gpu_separable.add_up(device, sums, 16, HEADS, EPS, new_a, new_b, made)
        put(made, spans, out)
    return out


def _error(got: Tensor, expected: Tensor) -> float:
    """The largest of any row, as a share of the row's largest number."""
    worst = (got - expected).abs().amax(-1) / expected.abs().amax(-1)
    return float(worst.max())


@settings(max_examples=6)
@given(
    st.integers(1, 40), st.sampled_from([1, 2, 24, 63]), st.sampled_from([16, 64]),
    st.integers(0, 10**6),
)  # fmt: skip
def test_normalized(length: int, k: int, page_size: int, seed: int) -> None:
    a, b = _inputs(length, k, seed)
    got = _normalized(a, b, page_size, seed)
    assert _error(got, reference.normalized_relation(a, b, EPS)) < 4e-6
    other = _normalized(a, b, page_size, seed + 1)
    assert torch.equal(got, other)


def test_normalized_over_several_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "SEGMENT", 16)
    a, b = _inputs(34, 257, 0)
    got = _normalized(a, b, 64, 0)
    assert _error(got, reference.normalized_relation(a, b, EPS)) < 4e-6
    assert torch.equal(got, _normalized(a, b, 16, 1))


def test_a_pool_of_bfloat16_is_one_of_rounded_numbers() -> None:
    a, b = _inputs(34, 24, 0)
    b[0, 0, 0, :4] = torch.tensor([1.00390625, 1.01171875, -1.00390625, 3e38])  # ties, the largest
    rounded = b.bfloat16().float()
    got = _normalized(a, b, 16, 0, torch.bfloat16)
    assert torch.equal(got, _normalized(a, rounded, 64, 1))
    assert not torch.equal(rounded, b)


@pytest.mark.parametrize(("length", "k"), [(1, 1), (50, 2), (130, 63)])
def test_separable(length: int, k: int) -> None:
    a, b = _inputs(length, k, length)
    got = _separable(a, b, 0)
    assert _error(got, reference.separable_relation(a, b, EPS)) < 2e-6
    assert torch.equal(got, _separable(a, b, 1))
