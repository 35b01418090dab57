"""The normalized relation over whole sequences on a device, interpreted: beside the reference."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from causalrn.model.ops.device import as_on_device
from causalrn.model.ops.relation import gpu_whole, normalized_relation, reference

pytestmark = pytest.mark.usefixtures("quick_interpreter")
EPS = float(np.float32(1e-6))
Relation = Callable[[Tensor, Tensor, float], Tensor]


@pytest.fixture(autouse=True)
def large_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take whole runs where care is needed: fewer and larger tiles are interpreted in less time."""
    for tile in (gpu_whole.RELATION_TILE, gpu_whole.GRADIENT_TILE):
        monkeypatch.setitem(tile, "FEW", tile["RUN"])


def _draw(*shape: int, seed: int) -> Tensor:
    """Readers, memories and gradients `[3, B, T, H, K]`; some of the pairs nearly cancel.

    What half of these leave is little but a mean.
    """
    drawn = torch.randn(3, *shape, generator=torch.Generator().manual_seed(seed))
    drawn[1, :, ::3] = -drawn[0, :, ::3] * 1.001
    drawn[1, :, ::6] += 7.0
    return drawn


def _gradients(relation: Relation, a: Tensor, b: Tensor, g: Tensor) -> list[Tensor]:
    """The result, and the gradients of readers and of memories, computed as on a device."""
    a, b = a.clone().requires_grad_(), b.clone().requires_grad_()
    with as_on_device():
        out = relation(a, b, EPS)
    out.backward(g.to(out.dtype))
    assert a.grad is not None
    assert b.grad is not None
    return [out.detach(), a.grad, b.grad]


def _errors(relation: Relation, oracle: Relation, drawn: Tensor) -> list[float]:
    """The largest of any row, as a share of the row's largest number, and a millionth of all."""
    got = _gradients(relation, *drawn)
    expected = _gradients(oracle, *drawn.double())
    errors = []
    for one, exact in zip(got, expected, strict=True):
        largest = exact.abs().amax(-1, keepdim=True)
        worst = (one - exact).abs() / (largest + 1e-6 * largest.max())
        errors.append(float(worst.max()))
    return errors


@pytest.mark.parametrize(
    ("length", "k"), [(1, 24), (2, 63), (7, 128), (16, 24), (17, 63), (33, 5), (65, 3), (130, 2)]
)  # fmt: skip
def test_normalized(length: int, k: int) -> None:
    """Up to three tiles of readers, and runs that end within a sequence and beyond it."""
    drawn = _draw(1, length, 1, k, seed=length)
    forward, *gradients = _errors(normalized_relation, reference.normalized_relation, drawn)
    assert forward < 4e-6
    # Two channels normalize to ±1 whatever they are: their gradient is rounding only.
    assert k == 2 or max(gradients) < 2e-4


@pytest.mark.parametrize(("length", "k"), [(40, 3), (3, 257)])
def test_normalized_in_segments_and_pieces(
    length: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_whole, "SEGMENT", 16)
    for tile in (gpu_whole.RELATION_TILE, gpu_whole.GRADIENT_TILE):
        monkeypatch.setitem(tile, "FEW", 4)
    drawn = _draw(1, length, 1, k, seed=length)
    forward, *gradients = _errors(normalized_relation, reference.normalized_relation, drawn)
    assert forward < 4e-6
    assert max(gradients) < 2e-4


@pytest.mark.parametrize("length", [1, 4, 70])
def test_a_single_channel_normalizes_to_zero_whatever_it_is(length: int) -> None:
    drawn = _draw(1, length, 1, 1, seed=length)
    out, da, db = _gradients(normalized_relation, *drawn)
    assert torch.equal(out, torch.ones_like(out))
    assert torch.equal(da, torch.zeros_like(da))
    assert torch.equal(db, torch.zeros_like(db))


@settings(max_examples=8)
@given(
    seed=st.integers(0, 10**6),
    gap=st.sampled_from([1e-1, 1e-2, 1e-3]),
    mean=st.sampled_from([0.0, 0.1, 1.0, 7.0, -50.0]),
    whose=st.sampled_from(["reader", "memory", "both"]),
)
def test_pairs_that_nearly_cancel_or_have_large_means(
    seed: int, gap: float, mean: float, whose: str
) -> None:
    """As on the CPU: every second place leaves little but a mean, beside others that leave much."""
    a, b, g = torch.randn(3, 1, 21, 1, 37, generator=torch.Generator().manual_seed(seed))
    b[:, ::2] = -a[:, ::2] * (1 + gap)
    if whose != "memory":
        a[:, ::4] += mean
    if whose != "reader":
        b[:, 1::2] += mean
        b[:, ::4] += mean
    drawn = torch.stack([a, b, g])
    forward, *gradients = _errors(normalized_relation, reference.normalized_relation, drawn)
    assert forward < 4e-6
    assert max(gradients) < 2e-4


def test_a_sequence_has_the_same_bits_in_any_batch() -> None:
    drawn = _draw(3, 10, 2, 5, seed=1)
    whole = _gradients(normalized_relation, *drawn)
    for s, heads in ((0, slice(0, 2)), (2, slice(1, 2))):
        alone = _gradients(normalized_relation, *drawn[:, s : s + 1, :, heads])
        for one, among in zip(alone, whole, strict=True):
            assert torch.equal(one, among[s : s + 1, :, heads])


def test_what_a_reader_gets_depends_on_what_it_sees_alone() -> None:
    """Even where readers of its tile that come later need care, or memories are not finite."""
    a, b, g = _draw(1, 80, 1, 5, seed=2)
    b[0, 72, 0, 1] = float("nan")
    whole = _gradients(normalized_relation, a, b, g)[0]
    for length in (1, 6, 63, 71):
        part = _gradients(normalized_relation, a[:, :length], b[:, :length], g[:, :length])[0]
        assert torch.equal(part, whole[:, :length])
        assert part.isfinite().all()


def test_identical_rows_stay_finite_and_a_nan_stays_a_nan() -> None:
    a, b, g = _draw(1, 6, 1, 16, seed=3)
    out, *gradients = _gradients(normalized_relation, torch.ones_like(a), -torch.ones_like(a), g)
    torch.testing.assert_close(out, torch.ones_like(out), rtol=1e-6, atol=0)
    assert all(one.isfinite().all() for one in gradients)
    b[0, 3, 0, 0] = float("nan")
    out, da, _ = _gradients(normalized_relation, a, b, g)
    for one in (out, da):
        assert one[0, :3].isfinite().all()
        assert one[0, 3:].isnan().all()
