"""Matrix products: right, and for each row the same bits whatever the other rows are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.lanes import LANES
from causalrn.model.ops.cpu.linear import TILE, add_product, add_spans, products_of, spans_of


@jit.kernel
def _product(x, first, last, w, out):  # type: ignore[no-untyped-def]
    for _ in jit.prange(1):
        add_product(x, first, last, w, out)


@jit.kernel
def _product_of_spans(x, first, last, w, spans, out):  # type: ignore[no-untyped-def]
    for _ in jit.prange(1):
        add_spans(x, first, last, w, spans, out)


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


@given(st.integers(1, 11), st.integers(1, 90), st.integers(1, 23), st.data())
def test_what_is_multiplied_by_zeros_changes_no_bit(
    n: int, d: int, m: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    x, w = rng.standard_normal((n, d)).astype(np.float32), np.zeros((m, d), np.float32)
    places = st.lists(st.tuples(st.integers(0, m - 1), st.integers(0, d - 1)), max_size=2 * m)
    for row, channel in data.draw(places):
        w[row, channel] = rng.standard_normal()
    w[rng.random(w.shape) < 0.2] *= np.float32(-0.0)
    expected = rng.standard_normal((n, m)).astype(np.float32)
    out = expected.copy()
    _product(x, 0, n, w, expected, work=0)
    _product_of_spans(x, 0, n, w, spans_of(w), out, work=0)
    assert out.tobytes() == expected.tobytes()


def test_spans_are_as_short_as_whole_vectors_allow() -> None:
    w = np.zeros((2 * TILE + 1, 4 * LANES + 3), np.float32)
    w[1, LANES + 5] = w[3, 2 * LANES] = 1.0
    w[2 * TILE, -1] = np.nan
    assert spans_of(w).tolist() == [
        [LANES, 3 * LANES], [0, 0], [4 * LANES, 4 * LANES + 3]
    ]  # fmt: skip
    assert products_of(spans_of(w)) == TILE * (2 * LANES + 3)
    assert spans_of(np.ones((5, 20), np.float32)).tolist() == [[0, 20]] * 2
