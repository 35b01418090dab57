from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.ops.cpu import jit
from model.ops.token_shift import reference, token_shift
from model.ops.token_shift.cpu import extend_shift

Shift = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@jit.kernel
def _extend(x, first, last, weight, tail, readers, memories):  # type: ignore[no-untyped-def]
    for _ in jit.prange(1):
        extend_shift(x, first, last, weight, tail, readers, memories)


def _by_conv1d(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """`[2, B, T, D]` by PyTorch's grouped convolution, which counts taps the other way round."""
    width, d = weight.shape[1:]
    padded = torch.nn.functional.pad(x.transpose(1, 2), (width - 1, 0))
    kernels = weight.flip(1).transpose(1, 2)[:, :, None]  # [2, D, 1, W]
    outs = [torch.nn.functional.conv1d(padded, kernel, groups=d) for kernel in kernels]
    return torch.stack(outs).transpose(2, 3)


@pytest.mark.parametrize("shift", [token_shift, reference.token_shift], ids=["cpu", "reference"])
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 5), st.integers(1, 6))
def test_equals_a_grouped_convolution_with_its_gradients(
    shift: Shift, batch: int, length: int, width: int, d: int
) -> None:
    generator = torch.Generator().manual_seed(batch * 1000 + length * 100 + width * 10 + d)
    tensors = [
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((batch, length, d), (2, width, d), (2, batch, length, d))
    ]
    x, weight, g = tensors
    got = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
    expected = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
    out, exact = shift(*got), _by_conv1d(*expected)
    torch.testing.assert_close(out, exact)
    out.backward(g)
    exact.backward(g)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@given(st.lists(st.integers(1, 7), min_size=1, max_size=8), st.integers(2, 5), st.integers(0, 99))
def test_any_chunking_gives_the_same_bits(chunks: list[int], width: int, seed: int) -> None:
    length, d = sum(chunks), 6
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, length, d, generator=generator)
    weight = torch.randn(2, width, d, generator=generator)
    whole = token_shift(x, weight)[:, 0]
    readers, memories = np.empty((2, length, d), np.float32)
    tail = np.zeros((width - 1, d), np.float32)
    for first, n in zip(np.cumsum([0, *chunks]), chunks, strict=False):
        _extend(x[0].numpy(), first, first + n, weight.numpy(), tail, readers, memories, work=0)
    assert torch.equal(torch.from_numpy(np.stack([readers, memories])), whole)
    kept = min(width - 1, length)
    assert np.array_equal(tail[width - 1 - kept :], x[0, length - kept :])
    assert not tail[: width - 1 - kept].any()
