"""Pairwise relations over whole sequences, beside the float64 reference."""

from collections.abc import Callable
from itertools import product
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from causalrn.model.ops import pairwise
from causalrn.model.ops.pairwise import pairwise_relation, reference
from causalrn.model.ops.pairwise.form import ACTIVATIONS, Form, Normalization
from causalrn.model.ops.relation import normalized_relation, separable_relation

EPS = 1e-6
_NORMALIZATIONS: tuple[Normalization, ...] = get_args(Normalization)
FORMS = [
    *(Form("pair", centred, power, "exp") for centred in (True, False) for power in (1, 2, 3, 4)),
    *(
        Form(normalization, activation=activation)
        for normalization, activation in product(_NORMALIZATIONS, ACTIVATIONS)
        if (normalization, activation) != ("pair", "exp")
    ),
]
forms = st.sampled_from(FORMS)


def _draw(length: int, heads: int, k: int, seed: int) -> list[Tensor]:
    """Readers, memories, temperatures and coefficients; two pairs nearly cancel."""
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 2, length, heads, k, generator=generator)
    if length > 1:
        noise = 1e-3 * torch.randn(heads, k, generator=generator)
        b[:, 0] = -a[:, -1] * (1 + noise)
    temperature = 0.5 + torch.rand(heads, generator=generator)
    return [a, b, temperature, torch.randn(4, generator=generator)]


@given(forms, st.integers(1, 70), st.integers(1, 3), st.sampled_from([2, 7, 16, 33]), st.integers())
@settings(max_examples=100)
def test_whole_sequences(form: Form, length: int, heads: int, k: int, seed: int) -> None:
    a, b, temperature, coefficients = _draw(length, heads, k, seed % 1000)
    got = pairwise_relation(a, b, form, temperature, coefficients, EPS)
    exact = reference.pairwise_relation(a, b, form, temperature, coefficients, EPS)
    # Normalized numbers, which are about 1, may cancel but for their rounding.
    least = max(1e-5 * exact.abs().max().item(), 2e-7)
    torch.testing.assert_close(got.double(), exact, rtol=1e-5, atol=least)


def _related(relation: Callable[..., Tensor], form: Form, inputs: list[Tensor]) -> Tensor:
    a, b, temperature, coefficients = inputs
    return relation(a, b, form, temperature, coefficients, EPS)


def _gradients(x: Tensor, inputs: list[Tensor], given_back: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(x, inputs, given_back.to(x.dtype), materialize_grads=True))


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_gradients(form: Form) -> None:
    """Away from where an activation bends, which rounding may cross."""
    inputs = _draw(21, 2, 9, 5)
    inputs[1][:, 0] += 0.5
    given_back = torch.randn(inputs[0].shape, generator=torch.Generator().manual_seed(1))
    singles = [x.clone().requires_grad_() for x in inputs]
    doubles = [x.double().requires_grad_() for x in inputs]
    got = _gradients(_related(pairwise_relation, form, singles), singles, given_back)
    exact = _gradients(_related(reference.pairwise_relation, form, doubles), doubles, given_back)
    for mine, other in zip(got, exact, strict=True):
        # PolyNorm takes temperatures out again, so what is left of them is rounding.
        least = 1e-4 if form.activation == "poly_norm" else 1e-5 * other.abs().max().item()
        torch.testing.assert_close(mine.double(), other, rtol=1e-5, atol=max(least, 1e-9))


@pytest.mark.parametrize("form", FORMS[::3], ids=str)
def test_a_device_does_the_same_reader_by_reader(
    form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = _draw(21, 2, 9, 5)
    given_back = torch.ones(inputs[0].shape)
    tensors = [x.requires_grad_() for x in inputs]
    expected = _related(pairwise_relation, form, tensors)
    gradients = _gradients(expected, tensors, given_back)
    monkeypatch.setattr(pairwise, "is_on_device", lambda _: True)
    monkeypatch.setattr(pairwise, "_DEVICE_NUMBERS", 4 * inputs[1].numel())
    got = _related(pairwise_relation, form, tensors)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    for mine, other in zip(_gradients(got, tensors, given_back), gradients, strict=True):
        torch.testing.assert_close(
            mine, other, rtol=1e-3, atol=1e-3 * max(1, other.abs().max().item())
        )


def test_the_relations_of_the_paper_are_among_them() -> None:
    a, b, _, coefficients = _draw(40, 2, 32, 3)
    ones = torch.ones(2)
    got = pairwise_relation(a, b, Form(), ones, coefficients, EPS)
    torch.testing.assert_close(got, normalized_relation(a, b, EPS), rtol=1e-5, atol=1e-5)
    got = pairwise_relation(a, b, Form("separate"), ones, coefficients, EPS)
    torch.testing.assert_close(got, separable_relation(a, b, EPS), rtol=1e-5, atol=1e-5)


def test_what_is_not_finite_stays_so() -> None:
    a, b, _, coefficients = _draw(3, 1, 8, 0)
    for activation in ACTIVATIONS:
        a[0, 1, 0, 2] = float("nan")
        form = Form("none", activation=activation)
        got = pairwise_relation(a, b, form, torch.ones(1), coefficients, EPS)
        assert got[0, 1, 0, 2].isnan()
        assert got[1].isfinite().all()
    huge = pairwise_relation(100 + b, b, Form("none"), torch.ones(1), coefficients, EPS)
    assert (huge[1] == float("inf")).all()


def test_shapes_are_checked() -> None:
    a, b, temperature, coefficients = _draw(3, 1, 8, 0)
    with pytest.raises(ValueError, match=r"must both be \[B, T, H, K\]"):
        pairwise_relation(a, b[:, 1:], Form(), temperature, coefficients, EPS)
