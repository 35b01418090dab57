"""The prefix sum against the float64 reference."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from causalrn.model.ops.relation import reference, separable_relation

EPS = 1e-6


# Two channels normalize to ±1 whatever they are: their gradient is rounding only.
@given(st.integers(1, 3), st.integers(1, 200), st.integers(1, 3), st.integers(3, 64))
def test_equals_the_reference_with_its_gradients(
    batch: int, length: int, heads: int, k: int
) -> None:
    generator = torch.Generator().manual_seed(length)
    a, b, g = torch.randn(3, batch, length, heads, k, generator=generator)
    exact_a, exact_b = a.double().requires_grad_(), b.double().requires_grad_()
    a.requires_grad_()
    b.requires_grad_()
    out = separable_relation(a, b, EPS)
    exact = reference.separable_relation(exact_a, exact_b, EPS)
    assert ((out - exact).abs() / exact).max() < 1e-5
    out.backward(g)
    exact.backward(g.double())
    for got, expected in ((a.grad, exact_a.grad), (b.grad, exact_b.grad)):
        assert got is not None
        assert expected is not None
        assert (got - expected).abs().max() <= 1e-4 * expected.abs().max() + 1e-6
