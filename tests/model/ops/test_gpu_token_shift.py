"""The token shift over whole sequences on a device, interpreted: beside the float64 reference."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from causalrn.model.ops.device import as_on_device
from causalrn.model.ops.token_shift import reference, token_shift

pytestmark = pytest.mark.usefixtures("quick_interpreter")


def _draw(
    batch: int, length: int, width: int, d: int, seed: int, n_outputs: int = 2
) -> tuple[Tensor, ...]:
    """Tokens, taps, reaches, and the gradient of the result."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, length, d, generator=generator)
    weight = torch.randn(n_outputs, width, d, generator=generator)
    reaches = torch.randint(width + 1, (batch, length), generator=generator)
    return x, weight, reaches, torch.randn(n_outputs, batch, length, d, generator=generator)


def _gradients(shift: Any, x: Tensor, weight: Tensor, reaches: Tensor, g: Tensor) -> list[Tensor]:
    """The result, and the gradients of tokens and of taps, computed as on a device."""
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    with as_on_device():
        out = shift(x, weight, reaches)
    out.backward(g)
    assert x.grad is not None
    assert weight.grad is not None
    return [out.detach(), x.grad, weight.grad]


@settings(max_examples=8)
@given(
    st.integers(1, 2), st.integers(1, 40), st.sampled_from([1, 2, 4, 19]),
    st.sampled_from([1, 24, 65]), st.integers(0, 10**6), st.integers(1, 2),
)  # fmt: skip
def test_any_shape(batch: int, length: int, width: int, d: int, seed: int, n_outputs: int) -> None:
    x, weight, reaches, g = _draw(batch, length, width, d, seed, n_outputs)
    got = _gradients(token_shift, x, weight, reaches, g)
    exact = _gradients(reference.token_shift, x.double(), weight.double(), reaches, g.double())
    for one, other in zip(got, exact, strict=True):
        assert (one - other).abs().max() <= 1e-6 * max(float(other.abs().max()), 1.0)


def test_a_part_of_the_channels_need_not_lie_side_by_side() -> None:
    x, weight, reaches, g = _draw(2, 9, 3, 30, 0)
    part = slice(5, 21)
    whole = _gradients(token_shift, x, weight, reaches, g)
    some = _gradients(
        lambda x, weight, reaches: token_shift(x[..., part], weight[..., part], reaches),
        x, weight, reaches, g[..., part],
    )  # fmt: skip
    assert torch.equal(some[0], whole[0][..., part])
    for one, other in zip(some[1:], whole[1:], strict=True):
        assert torch.equal(one[..., part], other[..., part])


def test_a_sequence_has_the_same_bits_in_any_batch() -> None:
    x, weight, reaches, g = _draw(3, 21, 4, 10, 1)
    whole = _gradients(token_shift, x, weight, reaches, g)
    alone = _gradients(token_shift, x[1:2], weight, reaches[1:2], g[:, 1:2])
    assert torch.equal(alone[0], whole[0][:, 1:2])
    assert torch.equal(alone[1], whole[1][1:2])
    part = _gradients(token_shift, x[:, :5], weight, reaches[:, :5], g[:, :, :5])
    assert torch.equal(part[0], whole[0][:, :, :5])


def test_each_of_two_outputs_has_the_bits_of_one() -> None:
    x, weight, reaches, g = _draw(2, 21, 4, 10, 2)
    both = _gradients(token_shift, x, weight, reaches, g)
    for number in range(2):
        part = slice(number, number + 1)
        one = _gradients(token_shift, x, weight[part], reaches, g[part])
        assert torch.equal(one[0], both[0][part])
        assert torch.equal(one[2], both[2][part])
