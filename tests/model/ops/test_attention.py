"""Attention over whole sequences and through paged pools, beside the float64 reference."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from causalrn.model.ops.attention import cpu, linear_attention, reference, rotate, softmax_attention
from causalrn.model.ops.attention.cpu_placed_layer import turns_of
from causalrn.model.ops.cpu import jit
from causalrn.model.ops.relation.cpu import SEGMENT

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
BOTH = [
    (softmax_attention, reference.softmax_attention),
    (linear_attention, reference.linear_attention),
]


def _draw(length: int, heads: int, k: int, seed: int, scale: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [scale * x for x in torch.randn(3, 2, length, heads, k, generator=generator)]


@pytest.mark.parametrize(("whole", "exact"), BOTH, ids=["softmax", "linear"])
@given(st.integers(1, 150), st.integers(1, 3), st.sampled_from([1, 2, 8, 33]), st.integers(0, 999))
@settings(max_examples=25)
def test_whole_sequences(
    whole: Attention, exact: Attention, length: int, heads: int, k: int, seed: int
) -> None:
    inputs = _draw(length, heads, k, seed)
    torch.testing.assert_close(whole(*inputs).double(), exact(*inputs), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("whole", "exact"), BOTH, ids=["softmax", "linear"])
def test_gradients(whole: Attention, exact: Attention) -> None:
    inputs = [x.double().requires_grad_() for x in _draw(70, 2, 5, 0)]
    given_back = torch.randn_like(inputs[0])
    got = torch.autograd.grad(whole(*inputs), inputs, given_back)
    expected = torch.autograd.grad(_written_out(exact, *inputs), inputs, given_back)
    for mine, other in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-10)


def _written_out(exact: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same with all pairs at once, as autograd cannot follow what is changed in place."""
    if exact is reference.softmax_attention:
        return exact(q, k, v)
    q, k = nn.functional.elu(q) + 1, nn.functional.elu(k) + 1
    weights = torch.einsum("bthk,bshk->bhts", q, k).tril()
    return torch.einsum("bhts,bshk->bthk", weights / weights.sum(-1, keepdim=True), v)


@given(
    st.lists(st.sampled_from([0, 1, 2, 7, 64, 65, 1000]), min_size=1, max_size=3),
    st.booleans(),
    st.integers(1, 150),
    st.sampled_from([2, 8, 34]),
    st.integers(0, 999),
)
@settings(max_examples=40)
def test_places_in_whole_sequences(
    windows: list[int], rotary: bool, length: int, k: int, seed: int
) -> None:
    inputs = _draw(length, len(windows), k, seed)
    got = _placed(rotate, softmax_attention, inputs, windows, rotary)
    exact = _placed(reference.rotate, reference.softmax_attention, inputs, windows, rotary)
    torch.testing.assert_close(got.double(), exact, rtol=2e-5, atol=2e-5)


@given(st.lists(st.integers(0, 80), min_size=2, max_size=2), st.booleans(), st.integers(0, 999))
@settings(max_examples=10)
def test_gradients_of_places(windows: list[int], rotary: bool, seed: int) -> None:
    inputs = [x.double().requires_grad_() for x in _draw(70, 2, 6, seed)]
    got = _placed(rotate, softmax_attention, inputs, windows, rotary)
    exact = _placed(reference.rotate, reference.softmax_attention, inputs, windows, rotary)
    given_back = torch.randn_like(got)
    for mine, other in zip(
        torch.autograd.grad(got, inputs, given_back),
        torch.autograd.grad(exact, inputs, given_back),
        strict=True,
    ):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-10)


def _placed(
    turned: Callable[[Tensor], Tensor],
    attention: Callable[..., Tensor],
    inputs: list[Tensor],
    windows: list[int],
    rotary: bool,
) -> Tensor:
    q, k, v = inputs
    if rotary:
        q, k = turned(q), turned(k)
    return attention(q, k, v, windows)


def test_rotated_products_tell_how_far_apart_tokens_are() -> None:
    q, k = (x.expand(1, 90, 1, 8) for x in torch.randn(2, 1, 1, 1, 8, dtype=torch.float64))
    products = (rotate(q)[0, :, 0] @ rotate(k)[0, :, 0].T).numpy()
    assert np.ptp(products[0]) > 0.1
    for distance in range(-89, 90):
        assert np.ptp(np.diagonal(products, distance)) < 1e-12


@pytest.mark.parametrize("windows", [[], [1, 3, 20, 0]], ids=["all", "windows"])
def test_it_is_the_attention_of_torch(windows: list[int]) -> None:
    """An implementation by others, with the same weights."""
    q, k, v = (x[:1].flatten(2) for x in _draw(20, 4, 6, 1))
    theirs = nn.MultiheadAttention(24, 4, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.eye(24).repeat(3, 1))
        theirs.out_proj.weight.copy_(torch.eye(24))
    mask = nn.Transformer.generate_square_subsequent_mask(20, dtype=torch.float64).repeat(4, 1, 1)
    for h, window in enumerate(windows):
        for t in range(20):
            mask[h, t, : max(0, t + 1 - window) if window else 0] = -torch.inf
    expected, _ = theirs(q.double(), k.double(), v.double(), attn_mask=mask)
    q, k, v = (x.unflatten(-1, (4, 6)) for x in (q, k, v))
    got = softmax_attention(q, k, v, windows).flatten(2)
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)


@jit.sequential
def _read(projected, n_heads, table, keys, values, partials, out):  # type: ignore[no-untyped-def]
    scores = np.empty(SEGMENT)
    for n in range(projected.shape[0]):
        cpu.remember(projected, n, n, table, keys, values)
    for n in range(projected.shape[0]):
        for begin in range(0, n + 1, SEGMENT):
            for h in range(n_heads):
                cpu.read_segment(
                    projected, n, h, table, keys, values, begin, min(begin + SEGMENT, n + 1),
                    scores, partials,
                )  # fmt: skip
        cpu.combine(n, n + 1, n_heads, partials, out)


def _from_pages(q: Tensor, k: Tensor, v: Tensor, page_size: int) -> NDArray[np.float32]:
    length, heads, width = q.shape
    projected = torch.cat([x.flatten(1) for x in (q, k, v)], 1).numpy()
    n_pages = -(-length // page_size)
    table = np.random.default_rng(0).permutation(n_pages).astype(np.int32)
    keys, values = np.full((2, n_pages, heads, page_size, width), np.nan, np.float32)
    n_segments = -(-length // SEGMENT)
    partials = np.full((n_segments, length, heads * (width + 2)), np.nan, np.float32)
    out = np.full((length, heads * width), np.nan, np.float32)
    _read(projected, heads, table, keys, values, partials, out)
    return out.reshape(q.shape)


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_several_segments_of_pages(scale: float) -> None:
    """With large scores, too, whose weights leave the range of float32."""
    q, k, v = (x[0] for x in _draw(2 * SEGMENT + 3, 2, 9, 2, scale))
    expected = reference.softmax_attention(q[None], k[None], v[None])[0]
    got = _from_pages(q, k, v, 16)
    assert np.array_equal(got, _from_pages(q, k, v, 48))
    np.testing.assert_allclose(got, expected.numpy(), rtol=2e-5, atol=2e-6 * scale)


@jit.sequential
def _rotate(projected, n_heads, places, turns):  # type: ignore[no-untyped-def]
    for n in range(projected.shape[0]):
        cpu.rotate(projected, n, n_heads, places[n], turns, np.empty((2, turns.shape[2])))


@pytest.mark.parametrize("k", [2, 10, 32])
def test_rotations_of_the_cpu(k: int) -> None:
    """Also those by places that float32 does not hold; values stay as they are."""
    places = np.array([0, 1, 2, 3, 511, 512, 65_535, 16_777_217, 2**31 - 1])
    projected = np.random.default_rng(k).normal(size=(len(places), 3, 2, k)).astype(np.float32)
    got = projected.copy().reshape(len(places), -1)
    _rotate(got, 2, places, turns_of(k))
    half = k // 2
    angles = places[:, None] * 10000.0 ** (-np.arange(half) / half)
    points = projected[..., :half] + 1j * projected[..., half:].astype(np.float64)
    points[:, :2] *= np.exp(1j * angles)[:, None, None]
    expected = np.concatenate([points.real, points.imag], -1)
    np.testing.assert_allclose(got.reshape(projected.shape), expected, rtol=1e-6, atol=1e-6)
    assert np.array_equal(got.reshape(projected.shape)[:, 2], projected[:, 2])
