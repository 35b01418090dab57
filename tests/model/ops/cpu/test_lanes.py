"""Arithmetic whose roundings the source decides."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from causalrn.model.ops.cpu import jit, lanes

ROOT = Path(__file__).parents[4]
LENGTHS = [1, 2, 15, 16, 17, 31, 63, 64, 192, 257]


@jit.kernel
def _sums(a, b, out):  # type: ignore[no-untyped-def]
    for row in jit.prange(1):
        out[row, 0], out[row, 1] = lanes.double_pair_sums(a, 1, b, 2)


@jit.kernel
def _wide_sums(x, y, shift, out):  # type: ignore[no-untyped-def]
    for row in jit.prange(1):
        out[row, 0] = lanes.row_sum(x, 0)
        out[row, 1] = lanes.row_dot(x, y, shift)


def in_lanes(terms: NDArray[Any]) -> Any:
    """Sum as documented: channel i in lane i % LANES, then halves of the lanes, pairwise."""
    sums = np.zeros(lanes.LANES, terms.dtype)
    for i, term in enumerate(terms):
        sums[i % lanes.LANES] += term
    while len(sums) > 1:
        sums = sums[: len(sums) // 2] + sums[len(sums) // 2 :]
    return sums[0]


def test_exp2_is_within_its_stated_error() -> None:
    y = np.linspace(-126, 127, 100_001).astype(np.float32)
    got = np.array([lanes.exp2(value) for value in y], np.float64)
    exact = np.exp2(y.astype(np.float64))
    assert (np.abs(got / exact - 1)).max() < 3e-7


@pytest.mark.parametrize("length", LENGTHS)
def test_sums_of_pairs_are_added_in_the_stated_order(length: int) -> None:
    rng = np.random.default_rng(length)
    a, b = rng.standard_normal((2, 6, length)).astype(np.float32)
    out = np.empty((1, 2))
    _sums(a, b, out, work=0)
    pair = a[1].astype(np.float64) + b[2]
    assert out[0, 0] == in_lanes(pair)
    np.testing.assert_allclose(out[0, 1], (pair**2).sum(), rtol=1e-12)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_wide_sums_are_added_in_the_stated_order(length: int, dtype: Any) -> None:
    rng = np.random.default_rng(length)
    x, y = rng.standard_normal((2, length)).astype(dtype)
    out = np.empty((1, 2))
    _wide_sums(x, y, 0.3, out, work=0)
    assert out[0, 0] == in_lanes(x.astype(np.float64)) == lanes.row_sums(x[None])[0]
    exact = ((x.astype(np.float64) - 0.3) * (y.astype(np.float64) - 0.3)).sum()
    np.testing.assert_allclose(out[0, 1], exact, rtol=1e-12, atol=1e-12)


def test_arrays_with_gaps_are_refused() -> None:
    rows = np.zeros((8, 8))[::2, ::2]
    with pytest.raises(TypeError, match="need C-contiguous arrays"):
        _wide_sums(rows[0], rows[1], 0.0, np.empty((1, 2)), work=0)


HISTORY = """
import hashlib, sys
import numpy as np
import torch
from causalrn.model.config import ModelConfig
from causalrn.model.decoder import Decoder
from causalrn.model.ops.cpu import jit
from causalrn.model.ops.relation import cpu_whole
from causalrn.model.state import RaggedBatch

torch.manual_seed(0)
params = {"d_relation": 24, "n_head": 2, "shift_width": 3}
blocks = [{"mixer": name, "params": params} for name in ("separable", "normalized")]
DECODER = Decoder(ModelConfig.from_dict({
    "vocab_size": 12, "bos_id": 9, "sep_id": 10, "eos_id": 11, "d_model": 40, "blocks": blocks,
    "positions": "coupled", "d_position": 8, "max_seq_len": 64,
}))
a, b, g = np.random.default_rng(0).standard_normal((3, 4, 48, 24)).astype(np.float32)
eps, starts, empty = np.float32(1e-6), np.array([0, 40]), np.array([0])
pages = np.arange(4, dtype=np.int32)[None]

def forward(work):
    out = np.empty_like(a)
    cpu_whole.forward(a, b, 48, eps, 2, out, work=work)
    return [out]

def backward(work):
    da, db = np.empty_like(a), np.empty_like(a)
    cpu_whole.backward(a, b, g, 48, eps, 2, da, db, work=work)
    return [da, db]

def extend(work):
    state = DECODER.new_state(n_pages=4, page_size=16, n_slots=1)
    jit.PARALLEL_WORK = 0 if work else 1e18
    batch = RaggedBatch(np.arange(40) % 9, starts, empty, empty, pages)
    logits = DECODER.extend(batch, state, np.arange(40)).logits.numpy()
    jit.PARALLEL_WORK = 200_000
    return [logits]

kernels = {"f": forward, "b": backward, "e": extend}
found = {}
for name in sys.argv[1]:
    results = kernels[name.lower()](0 if name.islower() else 1e9)
    digest = hashlib.sha256(b"".join(x.tobytes() for x in results)).hexdigest()
    assert found.setdefault(name.lower(), digest) == digest, name
print(sorted(found.items()))
"""


def test_bits_do_not_depend_on_what_ran_before() -> None:
    """Kernels in several orders, each on one thread (lower case) and on all (upper case)."""
    results = {
        subprocess.run(
            [sys.executable, "-c", HISTORY, order],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for order in ("fbeFBE", "eEbfBF", "BFEbfe")
    }
    assert len(results) == 1
