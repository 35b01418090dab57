"""The keyed relation on the CPU against the float64 reference."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from causalrn.model.ops.relation import reference
from causalrn.model.ops.relation.keyed import keyed_relation

EPS = 1e-6
shapes = st.tuples(st.integers(1, 3), st.integers(1, 140))
widths = st.tuples(st.sampled_from([0, 1, 3, 16, 37, 64]), st.sampled_from([1, 2, 17, 48])).filter(
    lambda widths: sum(widths) > 2
)
temperatures = st.sampled_from([0.5, 1.0, 8.0, 1e3, 5e7])
recencies = st.sampled_from([0.0, 1.5, 50.0])
tolerances = st.sampled_from([0.7, 1.5])
mild = st.sampled_from([0.5, 1.0, 8.0])  # where rounding what is tolerated does not show
ENERGY = torch.tensor([8.0, 4.0, 2.0, 0.5])
Parts = tuple[Tensor, Tensor, Tensor, dict[str, Any]]


def _draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _parts(
    shape: tuple[int, int], widths: tuple[int, int], silent: bool, seed: int
) -> list[Tensor]:
    d_key, d_value = widths
    a = _draw(*shape, d_key if silent else d_key + d_value, seed=seed)
    return [a, _draw(*shape, d_key + d_value, seed=seed + 1)]


def _reaches(shape: tuple[int, int], seed: int) -> Tensor:
    """Reaches of tokens whose turns begin at random."""
    rows = torch.arange(shape[1])
    begins = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.2
    return rows - (rows * begins).cummax(1).values


def _tolerant(tolerance: float, reaches: Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of a tolerance, for the relation and for its reference."""
    if not tolerance:
        return {}, {}
    forgiven = tolerance * reference.full_match(reaches, ENERGY)
    return {"tolerance": tolerance, "reaches": reaches, "energy": ENERGY}, {"forgiven": forgiven}


def _error(
    a: Tensor,
    b: Tensor,
    temperature: float,
    d_value: int,
    recency: float,
    tolerance: float = 0.0,
    seed: int = 0,
) -> float:
    """The largest error of a row, against its largest weight."""
    tau = torch.tensor(temperature)
    options: dict[str, Any] = {"d_value": d_value, "recency": recency, "eps": EPS}
    own, others = _tolerant(tolerance, _reaches(a.shape[:2], seed))  # type: ignore[arg-type]
    exact = reference.keyed_relation(a, b, tau, **options, **others)
    got = keyed_relation(a, b, tau, **options, **own)
    return float(((got - exact).abs().amax(-1) / exact.amax(-1)).max())


@given(shapes, widths, temperatures, recencies, st.booleans(), st.integers(0, 10**6))
def test_forward(
    shape: tuple[int, int],
    widths: tuple[int, int],
    temperature: float,
    recency: float,
    silent: bool,
    seed: int,
) -> None:
    a, b = _parts(shape, widths, silent, seed)
    assert _error(a, b, temperature, widths[1], recency) < 1e-5


@given(shapes, widths, mild, recencies, st.booleans(), tolerances, st.integers(0, 10**6))
def test_forward_with_a_tolerance(
    shape: tuple[int, int],
    widths: tuple[int, int],
    temperature: float,
    recency: float,
    silent: bool,
    tolerance: float,
    seed: int,
) -> None:
    a, b = _parts(shape, widths, silent, seed)
    b[..., : widths[0]] -= 2 * a[:, :1, : widths[0]]  # keys of the first reader's turn are near it
    assert _error(a, b, temperature, widths[1], recency, tolerance, seed) < 1e-5


@pytest.mark.parametrize("length", [511, 512, 513, 1100])
def test_forward_beyond_one_segment(length: int) -> None:
    for silent in (False, True):
        a, b = _parts((1, length), (16, 16), silent, 5)
        assert _error(a, b, 2.0, 16, 1.0) < 1e-5
        assert _error(a, b, 2.0, 16, 1.0, 1.5) < 1e-5


@pytest.mark.parametrize("mean", [0.0, 0.1, 5.0])
@pytest.mark.parametrize("gap", [1e-1, 1e-3, 0.0])
@pytest.mark.parametrize("temperature", [1.0, 4.0, 5e7])
def test_forward_where_keys_nearly_cancel(gap: float, mean: float, temperature: float) -> None:
    """Each reader meets memories whose keys are almost its negative: what retrieval looks like."""
    a, b = _parts((2, 70), (48, 20), True, 3)
    b[..., :48] = -a * (1 + gap)
    assert _error(a, b + mean, temperature, 20, 0.0) < 1e-5
    assert _error(a + mean, b, temperature, 20, 0.0) < 1e-5
    assert _error(a + mean, b - mean, temperature, 20, 0.0) < 1e-5


def _check_gradients(inputs: list[Tensor], g: Tensor, own: Any, others: Any) -> None:
    """Compare the gradients of readers, memories and temperature with those of the reference."""
    exact = [part.double().requires_grad_() for part in inputs]
    got = [part.clone().requires_grad_() for part in inputs]
    reference.keyed_relation(*exact, **others).backward(g.double())
    keyed_relation(*got, **own).backward(g)
    largest = max(float(part.grad.abs().max()) for part in exact[:2] if part.grad.numel())  # type: ignore[union-attr]
    for one, other in zip(got, exact, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        if not one.grad.numel():
            continue
        # A gradient that is nothing but rounding is told by those beside it.
        scale = max(float(other.grad.abs().max()), 1e-6 * largest, 1e-9)
        assert (one.grad - other.grad).abs().max() < 1e-4 * scale


@given(shapes, widths, temperatures, recencies, st.booleans(), st.integers(0, 10**6))
def test_gradients_of_readers_memories_and_temperature(
    shape: tuple[int, int],
    widths: tuple[int, int],
    temperature: float,
    recency: float,
    silent: bool,
    seed: int,
) -> None:
    options: dict[str, Any] = {"d_value": widths[1], "recency": recency, "eps": EPS}
    inputs = [*_parts(shape, widths, silent, seed), torch.tensor(temperature)]
    _check_gradients(inputs, _draw(*shape, widths[1], seed=seed + 2), options, options)


@given(shapes, widths, mild, recencies, st.booleans(), tolerances, st.integers(0, 10**6))
def test_gradients_with_a_tolerance(
    shape: tuple[int, int],
    widths: tuple[int, int],
    temperature: float,
    recency: float,
    silent: bool,
    tolerance: float,
    seed: int,
) -> None:
    options: dict[str, Any] = {"d_value": widths[1], "recency": recency, "eps": EPS}
    own, others = _tolerant(tolerance, _reaches(shape, seed))
    inputs = [*_parts(shape, widths, silent, seed), torch.tensor(temperature)]
    g = _draw(*shape, widths[1], seed=seed + 2)
    _check_gradients(inputs, g, options | own, options | others)


def test_all_channels_values_are_the_normalized_relation_up_to_a_factor_a_reader() -> None:
    a, b = _draw(2, 90, 24, seed=1), _draw(2, 90, 24, seed=2)
    got = keyed_relation(a, b, torch.tensor(1.0), d_value=24, recency=0.0, eps=EPS)
    plain = reference.normalized_relation(a[:, :, None], b[:, :, None], EPS)[:, :, 0]
    factors = (got / plain).double()
    torch.testing.assert_close(factors, factors[..., :1].expand_as(factors), rtol=1e-5, atol=0)


def test_readers_that_say_zero_of_values_are_silent() -> None:
    a, b = _parts((2, 75), (30, 12), True, 4)
    options: dict[str, Any] = {"d_value": 12, "recency": 0.5, "eps": EPS}
    spoken = torch.nn.functional.pad(a, (0, 12))
    tau = torch.tensor(3.0)
    torch.testing.assert_close(
        keyed_relation(spoken, b, tau, **options), keyed_relation(a, b, tau, **options)
    )


def test_of_several_equal_matches_the_youngest_wins_by_the_power_of_its_age() -> None:
    keys = _draw(1, 1, 32, seed=6)
    a = keys.expand(1, 101, 32).clone()
    b = torch.nn.functional.pad(_draw(1, 101, 32, seed=7), (0, 3))
    for place, channel in ((0, 32), (50, 33), (90, 34)):  # ages 100, 50 and 10 at the end
        b[0, place, :32], b[0, place, channel] = -keys, 1.0
    out = keyed_relation(a, b, torch.tensor(1e6), d_value=3, recency=2.0, eps=EPS)[0, -1]
    expected = torch.tensor([(11 / 101) ** 2, (11 / 51) ** 2, 1.0])
    torch.testing.assert_close(out, expected, rtol=1e-6, atol=0)


def test_full_matches_are_equal_but_for_their_age() -> None:
    """Whatever else keys leave, and add up to, as long as it is no more than a full match may."""
    a = _draw(1, 101, 32, seed=6)[:, :1].expand(1, 101, 32).clone()
    b = torch.nn.functional.pad(_draw(1, 101, 32, seed=7) + 3, (0, 4))
    left = _draw(4, 32, seed=8)
    left *= torch.tensor([1.4, 0.0, 1.2, 1.6])[:, None].sqrt() / left.norm(dim=1)[:, None]
    for place, channel in ((0, 32), (50, 33), (90, 34), (95, 35)):
        b[0, place, :32], b[0, place, channel] = left[channel - 32] - a[0, 0], 1.0
    reaches = torch.full((1, 101), 7)
    reaches[0, -1] = 3  # so a full match leaves the last of four taps
    options: dict[str, Any] = {"tolerance": 1.5, "reaches": reaches, "energy": torch.ones(4)}
    out = keyed_relation(a, b, torch.tensor(1e6), d_value=4, recency=2.0, eps=EPS, **options)
    expected = torch.tensor([(11 / 101) ** 2, (11 / 51) ** 2, 1.0, 0.0])
    torch.testing.assert_close(out[0, -1], expected, rtol=1e-6, atol=1e-30)


def test_a_tolerance_needs_to_know_what_a_full_match_leaves() -> None:
    a, b = _parts((1, 4), (5, 4), True, 1)
    with pytest.raises(ValueError, match="needs reaches and energy"):
        keyed_relation(a, b, torch.tensor(1.0), d_value=4, recency=0.0, eps=EPS, tolerance=1.0)


def test_a_nan_stays_a_nan_where_it_is_seen() -> None:
    a, b = _parts((1, 6), (16, 4), True, 8)
    b[0, 3, 17] = float("nan")
    out = keyed_relation(a, b, torch.tensor(1.0), d_value=4, recency=0.0, eps=EPS)
    assert out[0, :3].isfinite().all()
    assert out[0, 3:].isnan().any(-1).all()


@pytest.mark.parametrize("widths", [(5, 8), (8, 5)])
def test_channels_that_do_not_fit_are_refused(widths: tuple[int, int]) -> None:
    a, b = _draw(1, 4, widths[0], seed=1), _draw(1, 4, widths[1], seed=2)
    with pytest.raises(ValueError, match="channels"):
        keyed_relation(a, b, torch.tensor(1.0), d_value=4, recency=0.0, eps=EPS)
