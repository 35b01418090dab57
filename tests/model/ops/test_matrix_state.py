"""Matrix states over whole sequences, and what they can and cannot do with weights set by hand."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from causalrn.model.ops.attention import linear_attention
from causalrn.model.ops.matrix_state import matrix_state, reference


def _draw(length: int, heads: int, n: int, fades: bool, seed: int) -> list[Tensor]:
    """Queries, keys, values, betas, and logarithms of what is left, if any."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(2, length, heads, *shape, generator=generator)

    beta = 2 * torch.rand(2, length, heads, n, generator=generator)
    fade = [-torch.rand(2, length, heads, generator=generator)] if fades else []
    return [normal(5), normalize(normal(n, 5), dim=-1), normal(n, 7), beta, *fade]


def _all(inputs: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    q, k, v, beta, *fade = inputs
    return q, k, v, beta, fade[0] if fade else None


@given(
    st.integers(1, 150), st.integers(1, 2), st.integers(1, 3), st.booleans(), st.booleans(),
    st.integers(0, 999),
)  # fmt: skip
@settings(max_examples=60)
def test_whole_sequences(
    length: int, heads: int, n: int, fades: bool, corrects: bool, seed: int
) -> None:
    inputs = _all(_draw(length, heads, n, fades, seed))
    got = matrix_state(*inputs, corrects=corrects)
    exact = reference.matrix_state(*inputs, corrects=corrects)
    torch.testing.assert_close(got.double(), exact, rtol=1e-4, atol=1e-5 * exact.abs().max().item())


@pytest.mark.parametrize("fades", [False, True])
@pytest.mark.parametrize("corrects", [False, True])
def test_gradients(fades: bool, corrects: bool) -> None:
    inputs = [x.double().requires_grad_() for x in _draw(70, 2, 2, fades, 1)]
    got = matrix_state(*_all(inputs), corrects=corrects)
    exact = reference.matrix_state(*_all(inputs), corrects=corrects)
    given_back = torch.randn(got.shape, dtype=torch.float64)
    for mine, other in zip(
        torch.autograd.grad(got, inputs, given_back),
        torch.autograd.grad(exact, inputs, given_back),
        strict=True,
    ):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-9)


def test_parity_of_any_length() -> None:
    """One number, which a set bit turns into its opposite."""
    bits = torch.randint(2, (1, 5000), generator=torch.Generator().manual_seed(0))
    bits[:, 0] = 0
    ones = torch.ones(1, 5000, 1, 1, 1)
    value, beta = torch.zeros_like(ones), 2.0 * bits[..., None, None]
    value[:, 0], beta[:, 0] = 1, 1  # the first token writes the number
    got = matrix_state(ones[..., 0], ones, value, beta, None, corrects=True)
    assert torch.equal(got[0, :, 0, 0], 1.0 - 2.0 * (bits.cumsum(1)[0] % 2))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-3)])
@pytest.mark.parametrize(("size", "n_writes"), [(3, 2), (5, 4)])
def test_permutations_follow_each_other(
    size: int, n_writes: int, dtype: torch.dtype, tolerance: float
) -> None:
    """Each is up to `n_writes` swaps of two rows, and a swap is one write that corrects."""
    rng, length = np.random.default_rng(0), 2000
    keys = torch.zeros(1, size + length, 1, n_writes, size, dtype=dtype)
    values, beta = torch.zeros_like(keys), torch.zeros_like(keys[..., 0])
    rows = torch.eye(size, dtype=dtype)
    for i in range(size):  # at first, the state is the identity
        keys[0, i, 0, 0, i] = values[0, i, 0, 0, i] = beta[0, i, 0, 0] = 1
    every = list(permutations(range(size)))
    for t in range(size, size + length):
        wanted, now = list(every[rng.integers(len(every))]), list(range(size))
        n_swaps = 0
        for i in range(size):
            j = now.index(wanted[i])
            if i != j:
                now[i], now[j] = now[j], now[i]
                rows[[i, j]] = rows[[j, i]]
                keys[0, t, 0, n_swaps, i], keys[0, t, 0, n_swaps, j] = 0.5**0.5, -(0.5**0.5)
                beta[0, t, 0, n_swaps] = 2
                n_swaps += 1
    for i in range(size):
        queries = one_hot(torch.tensor(i), size).to(dtype).expand(1, size + length, 1, size)
        got = matrix_state(queries, keys, values, beta, None, corrects=True)
        torch.testing.assert_close(got[0, -1, 0], rows[i], rtol=0, atol=tolerance)


N_PAIRS = 16, 32, 64, 128, 256
# Shares of pairs that are found, in a matrix of 32 times 32 numbers.
FOUND = {
    "added": (0.997, 0.978, 0.852, 0.467, 0.169),
    "corrected": (0.974, 0.805, 0.450, 0.219, 0.102),
    "elu": (0.184, 0.083, 0.028, 0.011, 0.005),
}


@pytest.mark.parametrize("rule", FOUND)
def test_how_many_pairs_a_matrix_holds(rule: str) -> None:
    """Random unit vectors under random unit keys; the nearest value should be the right one.

    Linear attention gets longer keys: it hardly tells unit keys apart.
    """
    generator = torch.Generator().manual_seed(0)
    for n, expected in zip(N_PAIRS, FOUND[rule], strict=True):
        trials = 4096 // n
        keys, values = normalize(torch.randn(2, trials, n, 1, 32, generator=generator), dim=-1)
        twice = torch.cat([keys, keys], 1)
        written = torch.cat([values, torch.zeros_like(values)], 1)
        if rule == "elu":
            read = linear_attention(32**0.5 * twice, 32**0.5 * twice, written)
        else:
            beta = torch.cat([torch.ones(trials, n, 1, 1), torch.zeros(trials, n, 1, 1)], 1)
            read = matrix_state(
                twice, twice[:, :, :, None], written[:, :, :, None], beta, None,
                corrects=rule == "corrected",
            )  # fmt: skip
        likeness = read[:, n:, 0] @ values[:, :, 0].mT
        right = likeness.argmax(-1) == torch.arange(n)
        assert right.double().mean().item() == pytest.approx(expected, abs=0.025), n
