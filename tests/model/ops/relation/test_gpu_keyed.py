"""The keyed relation on a device, interpreted: beside the float64 reference, in any chunking."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from causalrn.model.backends.gpu_scratch import DeviceScratch
from causalrn.model.ops.relation import gpu_keyed_layer, reference
from causalrn.model.ops.relation.cpu_keyed_blunt import is_blunt
from causalrn.model.ops.relation.gpu_keyed_layer import Form, full_matches, relate_all, remember
from tests.model.ops.relation.chunks import batches, put

pytestmark = pytest.mark.usefixtures("quick_interpreter")
EPS, N = 1e-6, 2
ENERGY = torch.tensor([8.0, 4.0, 2.0, 0.5])
widths = st.sampled_from([(0, 17), (1, 2), (16, 48), (37, 1), (63, 5), (257, 3)])


def _form(
    tau: float, widths: tuple[int, int], *, recency: float = 0.0, tolerance: float = 0.0
) -> Form:
    return Form(
        *widths, torch.tensor([tau]), is_blunt(tau, recency, tolerance, sum(widths)),
        full_matches(ENERGY), recency, tolerance, EPS, speaks=False, tells_match=tolerance > 0,
    )  # fmt: skip


def _draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _reaches(length: int, seed: int) -> Tensor:
    rows = torch.arange(length)
    begins = torch.rand((N, length), generator=torch.Generator().manual_seed(seed)) < 0.2
    return rows - (rows * begins).cummax(1).values


def _related(
    form: Form,
    a: Tensor,
    b: Tensor,
    reaches: Tensor,
    seed: int,
    page_size: int = 16,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """What readers read, `[N, T, V]`, and their matches, `[N, T]`."""
    length, n_pages = a.shape[1], N * -(-a.shape[1] // page_size)
    pool = {
        "keys": torch.full((n_pages, form.n_blocks, page_size, 16), float("nan"), dtype=dtype),
        "values": torch.full((n_pages, page_size, form.n_values), float("nan"), dtype=dtype),
        "moments": torch.full((n_pages, 4, page_size, 1), float("nan")),
    }
    out = torch.full((N, length, form.n_values), float("nan"))
    matches = torch.full((N, length, 1), float("nan"))
    device = DeviceScratch(torch.device("cpu"))
    sizes = [form.n_keys, b.shape[2] - form.n_keys]
    for device.batch, spans in batches(N, length, page_size, seed, reaches):
        new_a, new_b = (torch.cat([x[s, span] for s, span in spans]) for x in (a, b))
        a_keys, a_values = new_a[:, : sizes[0]].contiguous(), new_a[:, sizes[0] :].contiguous()
        b_keys, b_values = (part.contiguous() for part in new_b.split(sizes, 1))
        remember(device, form, pool, page_size, a_keys, -b_keys, b_values, sign=-1.0)
        made = torch.full((len(new_a), form.n_values), float("nan"))
        match = relate_all(device, form, pool, page_size, a_keys, a_values, made)
        put(made, spans, out)
        put(match, spans, matches)
    return out, matches[..., 0]


def _check(form: Form, a: Tensor, b: Tensor, seed: int, *, again: bool = True) -> None:
    """Compare with the reference, and, if it is to be done again, with other chunks and pages."""
    reaches = _reaches(a.shape[1], seed)
    form = replace(form, speaks=a.shape[2] > form.n_keys)
    full = reference.full_match(reaches, ENERGY)
    forgiven = form.tolerance * full if form.tolerance else None
    expected = reference.keyed_relation(
        a, b, form.temperature[0], d_value=form.n_values, recency=form.recency, eps=EPS,
        forgiven=forgiven,
    )  # fmt: skip
    got, matches = _related(form, a, b, reaches, seed)
    errors = (got - expected).abs().amax(-1) / expected.amax(-1)
    assert errors.max() < 1e-5
    if again:
        other, other_matches = _related(form, a, b, reaches, seed + 1, 64)
        assert torch.equal(got, other)
        assert torch.equal(matches, other_matches) or not form.tells_match
    if form.tells_match:
        pairs = a[:, :, None, : form.n_keys] + b[:, None, :, : form.n_keys]
        left = pairs.double().square().sum(-1)
        shares = (full / left.clamp(min=full)).tril()
        torch.testing.assert_close(matches.double(), shares.amax(-1), rtol=1e-4, atol=1e-7)


@settings(max_examples=6)
@given(
    st.integers(1, 24), widths, st.sampled_from([0.5, 1.0, 8.0, 1e3, 5e7]),
    st.sampled_from([0.0, 1.5, 50.0]), st.booleans(), st.integers(0, 10**6),
)  # fmt: skip
def test_any_temperature_and_recency(
    length: int, widths: tuple[int, int], tau: float, recency: float, silent: bool, seed: int
) -> None:
    n_said = widths[0] if silent else sum(widths)
    a, b = _draw(N, length, n_said, seed=seed), _draw(N, length, sum(widths), seed=seed + 1)
    _check(_form(tau, widths, recency=recency), a, b, seed)


@settings(max_examples=6)
@given(
    st.integers(1, 24), widths.filter(lambda widths: widths[0] > 0),
    st.sampled_from([0.5, 1.0, 8.0]), st.sampled_from([0.7, 1.5]), st.integers(0, 10**6),
)  # fmt: skip
def test_a_tolerance(
    length: int, widths: tuple[int, int], tau: float, tolerance: float, seed: int
) -> None:
    a, b = _draw(N, length, widths[0], seed=seed), _draw(N, length, sum(widths), seed=seed + 1)
    b[..., : widths[0]] -= 2 * a[:, :1]  # keys of the first reader's turn are near it
    _check(_form(tau, widths, recency=1.5, tolerance=tolerance), a, b, seed)


@pytest.mark.parametrize("mean", [0.0, 5.0])
@pytest.mark.parametrize("gap", [1e-3, 0.0])
@pytest.mark.parametrize("tau", [1.0, 5e7])
def test_keys_that_nearly_cancel(gap: float, mean: float, tau: float) -> None:
    widths = (48, 20)
    a, b = _draw(N, 20, 48, seed=3), _draw(N, 20, 68, seed=4)
    b[..., :48] = -a * (1 + gap)
    form = _form(tau, widths)
    for moved_a, moved_b in ((a, b + mean), (a + mean, b - mean)):
        _check(form, moved_a, moved_b, 0, again=False)


@pytest.mark.parametrize("tau", [1.0, 20.0])
def test_several_segments(tau: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_keyed_layer, "SEGMENT", 16)
    a, b = _draw(N, 34, 16, seed=5), _draw(N, 34, 32, seed=6)
    _check(_form(tau, (16, 16)), a, b, 0)


@pytest.mark.parametrize("tau", [1.0, 5e7])
@pytest.mark.parametrize("speaks", [False, True])
def test_a_pool_of_bfloat16_is_one_of_rounded_numbers(tau: float, speaks: bool) -> None:
    widths = (16, 24)
    a, b = _draw(N, 24, 40 if speaks else 16, seed=9), _draw(N, 24, 40, seed=10)
    b[..., :16] = -a[..., :16]  # what is rounded alike cancels as before
    form, reaches = replace(_form(tau, widths), speaks=speaks), _reaches(24, 0)
    got, _ = _related(form, a, b, reaches, 0, dtype=torch.bfloat16)
    rounded_a, rounded_b = a.clone(), b.bfloat16().float()
    rounded_a[..., :16] = a[..., :16].bfloat16().float()  # keys are tied here
    expected, _ = _related(form, rounded_a, rounded_b, reaches, 1, 64)
    assert torch.equal(got, expected)
    assert got.isfinite().all()


@pytest.mark.parametrize("tau", [1.0, 1e3])
def test_a_nan_stays_a_nan_where_it_is_seen(tau: float) -> None:
    a, b = _draw(N, 20, 16, seed=7), _draw(N, 20, 24, seed=8)
    b[0, 5, 3] = torch.nan
    b[1, 9, 20] = torch.nan
    got, _ = _related(_form(tau, (16, 8)), a, b, _reaches(20, 0), 0)
    for s, first in ((0, 5), (1, 9)):
        assert got[s, :first].isfinite().all()
        assert not got[s, first:].isfinite().any()
