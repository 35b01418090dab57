"""Numbers of 16 bits in compiled code are those of torch."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.bfloat16 import rounded, widened

SPECIAL = [0.0, -0.0, 1.0, 3.0e38, 3.4028235e38, 1e-45, 1.1754944e-38, np.inf, -np.inf, np.nan]


@jit.inline
def _round(x, out):  # type: ignore[no-untyped-def]
    for i in range(x.shape[0]):
        out[i] = rounded(x[i], out)


@jit.inline
def _widen(x, out):  # type: ignore[no-untyped-def]
    for i in range(x.shape[0]):
        out[i] = widened(x[i])


def _check(x: NDArray[np.float32]) -> None:
    """All but the bits of NaN, which only have to stay NaN."""
    expected = torch.from_numpy(x).bfloat16()
    found = np.empty(len(x), np.uint16)
    _round(x, found)
    got = torch.from_numpy(found).view(torch.bfloat16)
    assert torch.equal(got.isnan(), expected.isnan())
    sure = ~expected.isnan()
    assert torch.equal(got.view(torch.int16)[sure], expected.view(torch.int16)[sure])
    wide = np.empty(len(x), np.float32)
    _widen(found, wide)
    assert torch.equal(torch.from_numpy(wide)[sure], expected.float()[sure])
    assert np.isnan(wide[~sure.numpy()]).all()


def test_special_numbers() -> None:
    nans = np.array([0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00000], np.uint32)
    _check(np.concatenate([np.array(SPECIAL, np.float32), nans.view(np.float32)]))


def test_numbers_halfway_go_to_the_even_one() -> None:
    bits = np.arange(0x3F800000, 0x3F900000, 0x4000, dtype=np.uint32)
    near = np.concatenate([bits - 1, bits, bits + 1])
    _check(near.view(np.float32))


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=64))
def test_any_bits(bits: list[int]) -> None:
    _check(np.array(bits, np.uint32).view(np.float32))


@pytest.mark.parametrize("function", [_round, _widen])
def test_float32_stays_as_it_is(function) -> None:  # type: ignore[no-untyped-def]
    x = np.random.default_rng(0).standard_normal(100).astype(np.float32)
    out = np.empty_like(x)
    function(x, out)
    assert np.array_equal(out.view(np.uint32), x.view(np.uint32))
