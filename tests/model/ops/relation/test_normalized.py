"""The kernels of the CPU against the float64 reference."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from causalrn.model.ops.relation import normalized_relation, reference

EPS = float(np.float32(1e-6))
Relation = Callable[[Tensor, Tensor, float], Tensor]
shapes = st.tuples(
    st.integers(1, 3), st.integers(1, 140), st.integers(1, 3), st.sampled_from([2, 3, 16, 37, 64])
)


def _draw(shape: tuple[int, ...], seed: int, scale: float = 1.0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def _relative_error(a: Tensor, b: Tensor) -> float:
    exact = reference.normalized_relation(a, b, EPS)
    return float(((normalized_relation(a, b, EPS) - exact).abs() / exact).max())


@given(shapes, st.integers(0, 10**6), st.sampled_from([0.01, 1.0, 100.0]))
def test_forward(shape: tuple[int, ...], seed: int, scale: float) -> None:
    assert _relative_error(_draw(shape, seed, scale), _draw(shape, seed + 1, scale)) < 1e-5


@pytest.mark.parametrize("mean", [0.0, 0.1, 5.0])
@pytest.mark.parametrize("gap", [1e-1, 1e-2, 1e-3])
def test_forward_where_pairs_nearly_cancel(gap: float, mean: float) -> None:
    """Each reader meets a memory that is almost its negative: what retrieval looks like."""
    a = _draw((2, 70, 2, 48), 3)
    centred = a - a.mean(-1, keepdim=True)
    assert _relative_error(a + mean, -a * (1 + gap)) < 1e-5
    assert _relative_error(a + mean, -centred * (1 + gap)) < 1e-5
    assert _relative_error(centred, -centred * (1 + gap) + mean) < 1e-5


def _gradients(relation: Relation, a: Tensor, b: Tensor, g: Tensor) -> list[Tensor]:
    a, b = a.clone().requires_grad_(), b.clone().requires_grad_()
    out = relation(a, b, EPS)
    out.backward(g.to(out.dtype))
    assert a.grad is not None
    assert b.grad is not None
    return [a.grad, b.grad]


@given(shapes, st.integers(0, 10**6))
def test_gradients(shape: tuple[int, ...], seed: int) -> None:
    if shape[3] == 2:
        # norm of two channels is (±1, ∓1) whatever they are: the gradient is rounding only.
        shape = (*shape[:3], 4)
    a, b, g = (_draw(shape, seed + i) for i in range(3))
    expected = _gradients(reference.normalized_relation, a.double(), b.double(), g)
    for got, exact in zip(_gradients(normalized_relation, a, b, g), expected, strict=True):
        if float(exact.abs().max()) > 1e-9:
            assert (got - exact).abs().max() < 1e-4 * exact.abs().max()


@given(
    shape=shapes.filter(lambda shape: shape[3] > 2),
    seed=st.integers(0, 10**6),
    gap=st.sampled_from([1e-1, 1e-2, 1e-3]),
    mean=st.sampled_from([0.0, 0.1, 1.0, 7.0, -50.0]),
    whose=st.sampled_from(["reader", "memory", "both"]),
)
def test_gradients_where_pairs_nearly_cancel_or_have_large_means(
    shape: tuple[int, ...], seed: int, gap: float, mean: float, whose: str
) -> None:
    """In every second place a pair leaves little but a mean, beside others that leave much."""
    a, b, g = (_draw(shape, seed + i) for i in range(3))
    b[:, ::2] = -a[:, ::2] * (1 + gap)
    if whose != "memory":
        a[:, ::4] += mean
    if whose != "reader":
        b[:, 1::2] += mean
        b[:, ::4] += mean
    expected = _gradients(reference.normalized_relation, a.double(), b.double(), g)
    for got, exact in zip(_gradients(normalized_relation, a, b, g), expected, strict=True):
        # Each row by its own largest: small ones must not hide behind those of near pairs.
        largest = exact.abs().amax(-1, keepdim=True)
        floor = 1e-6 * largest.max()
        assert ((got - exact).abs() / (largest + floor)).max() < 2e-4


def test_identical_rows_stay_finite() -> None:
    a = torch.ones(1, 5, 1, 8)
    out = normalized_relation(a, -a, EPS)
    torch.testing.assert_close(out, torch.ones(1, 5, 1, 8), rtol=1e-6, atol=0)
    found = _gradients(normalized_relation, a, -a, torch.ones_like(a))
    assert all(grad.isfinite().all() for grad in found)


def test_a_nan_stays_a_nan() -> None:
    a, b = _draw((1, 6, 1, 16), 1), _draw((1, 6, 1, 16), 2)
    b[0, 3, 0, 0] = float("nan")
    out = normalized_relation(a, b, EPS)
    assert out[0, :3].isfinite().all()
    assert out[0, 3:].isnan().all()


def test_readers_and_memories_of_different_shapes_are_refused() -> None:
    a = torch.ones(1, 5, 1, 8)
    with pytest.raises(ValueError, match=r"\[B, T, H, K\]"):
        normalized_relation(a, a[:, :4], EPS)
