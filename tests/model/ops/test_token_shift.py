import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.ops.token_shift import extend_token_shift, token_shift


def _reference(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """`[2, B, T, D]` by PyTorch's grouped convolution, which counts taps the other way round."""
    width, d = weight.shape[1:]
    padded = torch.nn.functional.pad(x.transpose(1, 2), (width - 1, 0))
    kernels = weight.flip(1).transpose(1, 2)[:, :, None]  # [2, D, 1, W]
    outs = [torch.nn.functional.conv1d(padded, kernel, groups=d) for kernel in kernels]
    return torch.stack(outs).transpose(2, 3)


@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 5), st.integers(1, 6))
def test_equals_a_grouped_convolution_with_its_gradients(
    batch: int, length: int, width: int, d: int
) -> None:
    generator = torch.Generator().manual_seed(batch * 1000 + length * 100 + width * 10 + d)
    tensors = [
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((batch, length, d), (2, width, d), (2, batch, length, d))
    ]
    x, weight, g = tensors
    got = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
    expected = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
    out, exact = token_shift(*got), _reference(*expected)
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
    tails = torch.zeros(3, width - 1, d)  # the extension runs on one thread, the whole on all
    slots = np.array([2])
    parts = []
    for first, n in zip(np.cumsum([0, *chunks]), chunks, strict=False):
        new = x[0, first : first + n].contiguous()
        parts.append(extend_token_shift(new, weight, np.array([0, n]), slots, tails))
    assert torch.equal(torch.cat(parts, 1), whole)
    assert torch.equal(tails[:2], torch.zeros(2, width - 1, d))
