"""Keyed relations over whole sequences on a device, interpreted: beside the float64 reference."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from causalrn.model.ops.device import as_on_device
from causalrn.model.ops.relation import gpu_keyed_whole, reference
from causalrn.model.ops.relation.cpu_keyed_blunt import MOST_BLUNT
from causalrn.model.ops.relation.keyed import keyed_relation

pytestmark = pytest.mark.usefixtures("quick_interpreter")
EPS = 1e-6
ENERGY = torch.tensor([8.0, 4.0, 2.0, 0.5])
widths = st.tuples(st.sampled_from([0, 1, 16, 37]), st.sampled_from([1, 2, 17, 48])).filter(
    lambda widths: sum(widths) > 2
)


def _draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _parts(length: int, widths: tuple[int, int], silent: bool, seed: int) -> tuple[Tensor, Tensor]:
    d_key, d_value = widths
    a = _draw(1, length, d_key if silent else d_key + d_value, seed=seed)
    return a, _draw(1, length, d_key + d_value, seed=seed + 1)


def _reaches(length: int, seed: int) -> Tensor:
    """Reaches of tokens whose turns begin at random."""
    rows = torch.arange(length)
    begins = torch.rand((1, length), generator=torch.Generator().manual_seed(seed)) < 0.2
    return rows - (rows * begins).cummax(1).values


def _gradients(
    relation: Any, a: Tensor, b: Tensor, tau: Any, g: Tensor, **how: Any
) -> list[Tensor]:
    """The result, and the gradients of readers, memories and temperature, as on a device."""
    inputs = [part.clone().requires_grad_() for part in (a, b, torch.as_tensor(tau).to(a))]
    with as_on_device():
        out = relation(*inputs, **how)
    out.backward(g)
    return [out.detach(), *(torch.zeros(0) if x.grad is None else x.grad for x in inputs)]


def _check(
    a: Tensor,
    b: Tensor,
    tau: float,
    d_value: int,
    *,
    recency: float = 0.0,
    eps: float = EPS,
    tolerance: float = 0.0,
    reaches: Tensor | None = None,
    active: Tensor | None = None,
) -> None:
    """Compare with the reference: each row with its largest weight, gradients with the largest."""
    own = {"tolerance": tolerance, "reaches": reaches, "energy": ENERGY, "active": active}
    forgiven = tolerance * reference.full_match(reaches, ENERGY) if reaches is not None else None
    how = {"d_value": d_value, "recency": recency, "eps": eps}
    g, tau = _draw(*a.shape[:2], d_value, seed=a.shape[1]), float(torch.tensor(tau))
    wanted = torch.ones(a.shape[:2], dtype=torch.bool) if active is None else active
    exact = _gradients(
        reference.keyed_relation, a.double(), b.double(), tau,
        (g * wanted[..., None]).double(), forgiven=forgiven, **how,
    )  # fmt: skip
    got = _gradients(keyed_relation, a, b, tau, g, **how, **own)
    errors = (got[0] - exact[0])[wanted].abs().amax(-1) / exact[0][wanted].amax(-1)
    assert errors.max() < 1e-5
    assert not got[0][~wanted].any()
    largest = max(float(one.abs().max()) for one in exact[1:3] if one.numel())
    for one, other in zip(got[1:], exact[1:], strict=True):
        # A gradient that is nothing but rounding is told by those beside it.
        if other.numel():
            scale = max(float(other.abs().max()), 1e-6 * largest, 1e-9)
            assert (one - other).abs().max() < 1e-4 * scale


@settings(max_examples=8)
@given(
    st.integers(1, 20), widths, st.sampled_from([0.5, 1.0, 8.0, 1e3, 5e7]),
    st.sampled_from([0.0, 1.5, 50.0]), st.booleans(), st.integers(0, 10**6),
)  # fmt: skip
def test_any_temperature_and_recency(
    length: int, widths: tuple[int, int], tau: float, recency: float, silent: bool, seed: int
) -> None:
    a, b = _parts(length, widths, silent, seed)
    _check(a, b, tau, widths[1], recency=recency)


@settings(max_examples=6)
@given(
    st.integers(1, 20), widths, st.sampled_from([0.5, 1.0, 8.0]), st.booleans(), st.booleans(),
    st.sampled_from([0.7, 1.5]), st.integers(0, 10**6),
)  # fmt: skip
def test_a_tolerance(
    length: int,
    widths: tuple[int, int],
    tau: float,
    silent: bool,
    near: bool,
    tolerance: float,
    seed: int,
) -> None:
    a, b = _parts(length, widths, silent, seed)
    if near:
        b[..., : widths[0]] -= 2 * a[:, :1, : widths[0]]  # keys of the first reader's turn
    reaches = _reaches(length, seed)
    _check(a, b, tau, widths[1], recency=1.5, tolerance=tolerance, reaches=reaches)


@pytest.mark.parametrize("mean", [0.0, 5.0])
@pytest.mark.parametrize("gap", [1e-3, 0.0])
@pytest.mark.parametrize("tau", [1.0, 5e7])
def test_keys_that_nearly_cancel(gap: float, mean: float, tau: float) -> None:
    """Each reader meets a memory whose keys are almost its negative: what retrieval looks like."""
    a, b = _parts(12, (48, 20), True, 3)
    b[..., :48] = -a * (1 + gap)
    _check(a + mean, b - mean, tau, 20)


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("bluntness", [0.5, 0.999, 1.001])
def test_means_that_dwarf_what_is_left(bluntness: float, silent: bool) -> None:
    """On both sides of the border to relations whose pairs are all done in float64."""
    a, b = _parts(18, (37, 24), silent, 5)
    b[:, ::3, : a.shape[2]] = -a[:, ::3] * 1.001
    b[:, ::6] += 7.0
    b[:, 1::5] *= 1e-3
    _check(a, b, bluntness * MOST_BLUNT / (math.sqrt(60) + 2), 24)


@pytest.mark.parametrize("eps", [0.0, EPS])
def test_numbers_whose_squares_are_too_small_for_float32(eps: float) -> None:
    a, b = _parts(10, (16, 8), True, 1)
    _check(a * 1e-25, b * 1e-25, 1.0, 8, eps=eps)


@pytest.mark.parametrize("tau", [1.0, 1e3])
def test_readers_that_are_not_wanted_get_nothing_and_give_nothing(tau: float) -> None:
    a, b = _parts(18, (16, 20), False, 8)
    active = torch.rand(1, 18, generator=torch.Generator().manual_seed(1)) < 0.3
    _check(a, b, tau, 20, active=active)
    how = {"d_value": 20, "recency": 0.0, "eps": EPS}
    g = _draw(1, 18, 20, seed=2) * active[..., None]
    every = _gradients(keyed_relation, a, b, tau, g, **how)
    some = _gradients(keyed_relation, a, b, tau, g, active=active, **how)
    assert torch.equal(some[0][active], every[0][active])
    assert torch.equal(some[1][active], every[1][active])
    assert not some[1][~active].any()


@pytest.mark.parametrize("tau", [1.0, 1e3])
def test_a_sequence_has_the_same_bits_in_any_batch(tau: float) -> None:
    """What a reader gets depends on what it sees alone."""
    a, b, g = _draw(3, 11, 21, seed=1), _draw(3, 11, 26, seed=2), _draw(3, 11, 5, seed=3)
    how = {"d_value": 5, "recency": 0.0, "eps": EPS}
    whole = _gradients(keyed_relation, a, b, tau, g, **how)
    alone = _gradients(keyed_relation, a[1:2], b[1:2], tau, g[1:2], **how)
    for one, among in zip(alone[:3], whole, strict=False):
        assert torch.equal(one, among[1:2])
    part = _gradients(keyed_relation, a[:1, :6], b[:1, :6], tau, g[:1, :6], **how)
    assert torch.equal(part[0], whole[0][:1, :6])
    assert torch.equal(part[1], whole[1][:1, :6])


def test_full_matches_are_equal_but_for_their_age() -> None:
    """The youngest one wins by the power of its age, and what is beyond the tolerance does not."""
    a = _draw(1, 101, 32, seed=6)[:, :1].expand(1, 101, 32)
    b = torch.nn.functional.pad(_draw(1, 101, 32, seed=7) + 3, (0, 4))
    left = _draw(4, 32, seed=8)
    left *= torch.tensor([1.4, 0.0, 1.2, 1.6])[:, None].sqrt() / left.norm(dim=1)[:, None]
    for place, channel in ((0, 32), (50, 33), (90, 34), (95, 35)):
        b[0, place, :32], b[0, place, channel] = left[channel - 32] - a[0, 0], 1.0
    reaches, active = torch.full((1, 101), 7), torch.arange(101)[None] == 100
    reaches[0, -1] = 3  # so a full match leaves the last of four taps
    with as_on_device():
        out = keyed_relation(
            a, b, torch.tensor(1e6), d_value=4, recency=2.0, eps=EPS, active=active, tolerance=1.5,
            reaches=reaches, energy=torch.ones(4),
        )  # fmt: skip
    expected = torch.tensor([(11 / 101) ** 2, (11 / 51) ** 2, 1.0, 0.0])
    torch.testing.assert_close(out[0, -1], expected, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("tau", [1.0, 1e3])
def test_a_nan_stays_a_nan_where_it_is_seen(tau: float) -> None:
    a, b = _parts(12, (16, 4), True, 8)
    b[0, 3, 17] = float("nan")
    g = _draw(1, 12, 4, seed=1)
    out, da, *_ = _gradients(keyed_relation, a, b, tau, g, d_value=4, recency=0.0, eps=EPS)
    for one in (out, da):
        assert one[0, :3].isfinite().all()
        assert one[0, 3:].isnan().all()


class Launches:
    """Stands in for a kernel, and notes that it was launched."""

    def __init__(self, name: str, launched: list[str]) -> None:
        self.name, self.launched = name, launched

    def __getitem__(self, _grid: tuple[int, ...]) -> Callable[..., None]:
        return lambda *_, **__: self.launched.append(self.name)


def test_nothing_on_a_device_is_read_by_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors that have shapes alone stand in for those of a device."""
    launched: list[str] = []
    for name in ("sum_values", "relate_keyed", "add_keyed_gradients"):
        monkeypatch.setattr(gpu_keyed_whole, name, Launches(name, launched))
    a, b = (x.to("meta").requires_grad_() for x in _parts(5, (8, 4), True, 0))
    tau = torch.ones((), device="meta", requires_grad=True)
    reaches, energy = torch.ones(1, 5, dtype=torch.int64, device="meta"), ENERGY.to("meta")
    how: dict[str, Any] = {"tolerance": 1.0, "reaches": reaches, "energy": energy}
    keyed_relation(a, b, tau, d_value=4, recency=0.0, eps=EPS, **how).sum().backward()
    assert launched == ["sum_values", "relate_keyed", *2 * ["add_keyed_gradients"]]
    for one in (a, b, tau):
        assert one.grad is not None
        assert one.grad.shape == one.shape
