"""Sixteen memories at a time come to the same bits as one after the other."""

from typing import Any

import numpy as np

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.relation.cpu_keyed_lanes import best_share, exponents, largest, least

F = np.float32
FIRST, STRIDE, AT = 5, 40, 3


@jit.inline
def _exponents(squares, at, full, moments, first, stride, out, numbers):  # type: ignore[no-untyped-def]
    exponents(squares, at, full, moments, first, stride, out, numbers)


@jit.inline
def _ends(x, at):  # type: ignore[no-untyped-def]
    return least(x, at), largest(x, at)


@jit.inline
def _best_share(full, squares, at, zero):  # type: ignore[no-untyped-def]
    return best_share(full, squares, at, zero)


def _one_exponent(square: F, full: F, moments: Any, numbers: tuple[F, ...]) -> F:
    total, inv_d, down, tolerated, tau, eps, most, infinite, zero = numbers
    kept = max(square * down - tolerated * full, zero)
    mean = (total + moments[0]) * inv_d
    variance = (kept + moments[1]) * inv_d - mean * mean
    with np.errstate(invalid="ignore"):
        exponent = tau * (moments[2] - mean) / (np.sqrt(variance) + eps)
    return exponent if mean * mean <= most * variance else infinite


def test_exponents() -> None:
    rng = np.random.default_rng(0)
    n_infinite = 0
    for number in range(60):
        squares = (rng.standard_normal(24) ** 2 * 10.0 ** rng.integers(-6, 6)).astype(F)
        full = (rng.standard_normal(16) ** 2).astype(F)
        moments = rng.standard_normal((3, STRIDE)).astype(F)
        moments[1] **= 2
        drawn = (
            rng.uniform(-20, 20), 1 / 48, 1 - 1e-5, rng.choice([0.0, 1.4]), 10.0 ** (number % 20),
            1e-6,
        )  # fmt: skip
        numbers = tuple(map(F, (*drawn, 4.0, np.inf, 0.0)))
        out = np.full(24, F(7.0))
        _exponents(squares, AT, full, moments, FIRST, STRIDE, out, numbers)
        expected = [
            _one_exponent(squares[AT + j], full[j], moments[:, FIRST + j], numbers)
            for j in range(16)
        ]
        assert out[AT : AT + 16].tobytes() == np.array(expected, F).tobytes()
        assert (out[:AT] == 7).all()
        assert (out[AT + 16 :] == 7).all()
        n_infinite += np.isinf(expected).sum()
    assert 0 < n_infinite < 60 * 16


def test_the_ends_of_sixteen() -> None:
    x = np.random.default_rng(0).standard_normal((4, 16)).astype(F)
    x[1, 3], x[2, 1] = -np.inf, np.inf
    flat = x.reshape(-1)
    for at in range(48):
        part = flat[at : at + 16]
        assert _ends(x, at) == (part.min(), part.max())


def test_the_best_share_is_one_at_most_and_nothing_counts_as_nothing() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        full, squares = (rng.standard_normal((2, 24)) ** 2).astype(F)
        full = full[:16] * (rng.random(16) < 0.5)
        squares[5] = 0.0
        shares = [
            whole / max(whole, square) if whole > 0 else F(0.0)
            for whole, square in zip(full, squares[4:], strict=False)
        ]
        assert _best_share(full, squares, 4, F(0.0)) == max(shares)
    nothing = np.zeros(24, F)
    assert _best_share(nothing[:16].copy(), nothing, 0, F(0.0)) == 0.0
    assert _best_share(np.ones(16, F), nothing, 0, F(0.0)) == 1.0
