"""Matrix products: right, and for each row the same bits whatever the other rows are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.ops.cpu import jit
from model.ops.cpu.linear import add_product


@jit.kernel
def _product(x, first, last, w, out):  # type: ignore[no-untyped-def]
    for _ in jit.prange(1):
        add_product(x, first, last, w, out)


@pytest.mark.parametrize(("d", "m"), [(1, 1), (16, 4), (24, 7), (192, 192), (256, 259)])
def test_equals_the_exact_product(d: int, m: int) -> None:
    rng = np.random.default_rng(d)
    x, w = rng.standard_normal((9, d)).astype(np.float32), rng.standard_normal((m, d))
    w = w.astype(np.float32)
    start = rng.standard_normal((9, m)).astype(np.float32)
    out = start.copy()
    _product(x, 1, 8, w, out, work=0)
    exact = start[1:8] + x[1:8].astype(np.float64) @ w.T.astype(np.float64)
    np.testing.assert_allclose(out[1:8], exact, rtol=1e-5, atol=1e-5 * np.sqrt(d))
    assert np.array_equal(out[[0, 8]], start[[0, 8]])


@given(st.integers(1, 40), st.integers(1, 70), st.integers(1, 20), st.data())
def test_a_row_does_not_depend_on_the_others(n: int, d: int, m: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(n)
    x, w = rng.standard_normal((n, d)).astype(np.float32), rng.standard_normal((m, d))
    w = w.astype(np.float32)
    alone = np.zeros((n, m), np.float32)
    for row in range(n):
        _product(x, row, row + 1, w, alone, work=0)
    first = data.draw(st.integers(0, n - 1))
    last = data.draw(st.integers(first + 1, n))
    together = np.zeros((n, m), np.float32)
    _product(x, first, last, w, together, work=0)
    assert together[first:last].tobytes() == alone[first:last].tobytes()
