from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.token_shift import reference, token_shift
from causalrn.model.ops.token_shift.cpu import extend_tail, shift_rows

Shift = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@jit.kernel
def _extend(x, first, last, channel, weight, reaches, active, tail, readers, memories):  # type: ignore[no-untyped-def]
    for _ in jit.prange(1):
        for n in range(last - 1, first - 1, -1):  # in any order
            shift_rows(
                x, n, n + 1, first, channel, weight, reaches, active, tail, readers, memories
            )  # fmt: skip
        extend_tail(x, first, last, channel, tail, tail)


def _by_conv1d(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """`[O, B, T, D]` by PyTorch's grouped convolution, which counts taps the other way round."""
    width, d = weight.shape[1:]
    padded = torch.nn.functional.pad(x.transpose(1, 2), (width - 1, 0))
    kernels = weight.flip(1).transpose(1, 2)[:, :, None]  # [O, D, 1, W]
    outs = [torch.nn.functional.conv1d(padded, kernel, groups=d) for kernel in kernels]
    return torch.stack(outs).transpose(2, 3)


@pytest.mark.parametrize("shift", [token_shift, reference.token_shift], ids=["cpu", "reference"])
@given(
    st.integers(1, 3), st.integers(1, 9), st.integers(1, 5), st.integers(1, 6), st.integers(1, 2)
)
def test_equals_a_grouped_convolution_with_its_gradients(
    shift: Shift, batch: int, length: int, width: int, d: int, n_outputs: int
) -> None:
    generator = torch.Generator().manual_seed(batch * 1000 + length * 100 + width * 10 + d)
    tensors = [
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((batch, length, d), (n_outputs, width, d), (n_outputs, batch, length, d))
    ]
    x, weight, g = tensors
    got = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
    expected = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
    everywhere = torch.full((batch, length), 99)
    out, exact = shift(got[0], got[1], everywhere), _by_conv1d(*expected)
    torch.testing.assert_close(out, exact)
    out.backward(g)
    exact.backward(g)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize("shift", [token_shift, reference.token_shift], ids=["cpu", "reference"])
@given(st.integers(1, 9), st.integers(1, 5), st.integers(0, 999))
def test_taps_end_where_a_token_reaches_no_further(
    shift: Shift, length: int, width: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, length, 3, generator=generator, dtype=torch.float64)
    weight = torch.randn(2, width, 3, generator=generator, dtype=torch.float64)
    reaches = torch.randint(width + 1, (1, length), generator=generator)
    got = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
    expected = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
    out = shift(got[0], got[1], reaches)
    exact = torch.zeros(2, 1, length, 3, dtype=torch.float64)
    for t in range(length):
        for tap in range(min(width, t + 1, int(reaches[0, t]) + 1)):
            exact[:, 0, t] = exact[:, 0, t] + expected[0][0, t - tap] * expected[1][:, tap]
    torch.testing.assert_close(out, exact)
    g = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    out.backward(g)
    exact.backward(g)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@given(
    st.lists(st.integers(1, 7), min_size=1, max_size=8),
    st.integers(2, 5),
    st.sampled_from([(0, 6), (2, 5), (0, 1), (4, 6)]),
    st.integers(0, 99),
)
def test_any_chunking_gives_the_same_bits(
    chunks: list[int], width: int, channels: tuple[int, int], seed: int
) -> None:
    length, d, (first_channel, end) = sum(chunks), 6, channels
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, length, d, generator=generator)
    weight = torch.randn(2, width, end - first_channel, generator=generator)
    reaches = torch.randint(width + 1, (1, length), generator=generator)
    active = torch.randint(2, (length,), generator=generator).bool()
    whole = x.repeat(2, 1, 1)
    shifted = token_shift(x[..., first_channel:end], weight, reaches)[:, 0]
    whole[..., first_channel:end] = shifted
    readers, memories = np.zeros((2, length, d), np.float32)
    tail = np.zeros((width - 1, end - first_channel), np.float32)
    for first, n in zip(np.cumsum([0, *chunks]), chunks, strict=False):
        _extend(
            x[0].numpy(), first, first + n, first_channel, weight.numpy(), reaches[0].numpy(),
            active.numpy(), tail, readers, memories, work=0,
        )  # fmt: skip
    assert torch.equal(torch.from_numpy(memories), whole[1])
    assert torch.equal(torch.from_numpy(readers)[active], whole[0][active])
    kept = min(width - 1, length)
    assert np.array_equal(tail[width - 1 - kept :], x[0, length - kept :, first_channel:end])
    assert not tail[: width - 1 - kept].any()
