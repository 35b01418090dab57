"""The normalization of the CPU and of devices, beside the one that is written as its formula."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.device import as_on_device
from causalrn.model.ops.norm import norm, reference

# Two channels normalize to ±1 whatever they are: their gradient is rounding only.
SHAPES = st.tuples(st.integers(1, 5), st.integers(3, 70))
EPSILONS = st.sampled_from([1e-6, 1e-3, 0.5])


@given(SHAPES, EPSILONS, st.integers(0))
def test_equals_the_reference_with_its_gradient(
    shape: tuple[int, int], eps: float, seed: int
) -> None:
    _compare(shape, eps, seed)


@settings(max_examples=20)
@given(SHAPES, EPSILONS, st.integers(0))
@pytest.mark.usefixtures("quick_interpreter")
def test_a_device_equals_the_reference_with_its_gradient(
    shape: tuple[int, int], eps: float, seed: int
) -> None:
    with as_on_device():
        _compare(shape, eps, seed)


def _compare(shape: tuple[int, int], eps: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed % 2**60)
    x = torch.randn(shape, generator=generator) * 3 + 1
    g = torch.randn(shape, generator=generator)
    exact = x.double().requires_grad_()
    expected = reference.norm(exact, eps)
    expected.backward(g.double())
    x.requires_grad_()
    z = norm(x, eps)
    z.backward(g)
    assert exact.grad is not None
    assert x.grad is not None
    torch.testing.assert_close(z.double(), expected, rtol=1e-6, atol=1e-5)
    scale = exact.grad.abs().max()
    assert (x.grad - exact.grad).abs().max() <= 1e-4 * scale + 1e-7


def test_gradient_in_float64_by_finite_differences() -> None:
    x = torch.randn(3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda t: norm(t, 0.1), x)


@pytest.mark.parametrize("is_device", [False, True])
@pytest.mark.usefixtures("quick_interpreter")
def test_a_constant_row_gives_zeros_and_a_finite_gradient(is_device: bool) -> None:
    x = torch.full((2, 8), 3.0, requires_grad=True)
    with as_on_device(is_device):
        z = norm(x, 1e-3)
    z.backward(torch.arange(16.0).view(2, 8))
    assert torch.equal(z, torch.zeros(2, 8))
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("is_device", [False, True])
@pytest.mark.usefixtures("quick_interpreter")
def test_a_row_has_the_same_bits_among_any_others(is_device: bool) -> None:
    x = torch.randn(300, 96, generator=torch.Generator().manual_seed(2))
    with as_on_device(is_device):
        whole = norm(x, 1e-6)
        for first, last in ((0, 1), (7, 9), (100, 131), (299, 300)):
            assert torch.equal(norm(x[first:last], 1e-6), whole[first:last])


def test_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(50, 97, generator=torch.Generator().manual_seed(2))
    results = []
    for least_work in (0, math.inf):
        monkeypatch.setattr(jit, "PARALLEL_WORK", least_work)
        results.append(norm(x, 1e-6))
    assert torch.equal(*results)


def test_epsilon_is_added_to_the_deviation() -> None:
    x = torch.tensor([[-2.0, 2.0]])  # mean 0, standard deviation 2
    torch.testing.assert_close(norm(x, 2.0), torch.tensor([[-0.5, 0.5]]))
