"""Exponentials by a table: their error, and the same bits on every processor."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.exponentials import exp2_lanes, exponentials, table
from causalrn.model.ops.cpu.lanes import LANES, exp2, load_lanes, row_pointer, splat, store_lanes

ROOT = Path(__file__).parents[4]


@jit.intrinsic
def _sixteen(typingctx: Any, u: Any, at: Any, scale: Any, factor: Any, out: Any) -> Any:  # noqa: ARG001
    """out[0] = factor · 2^(u·scale), by the table, and out[1] = 2^u, by the polynomial."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, length = row_pointer(context, builder, signature.args[0], args[0])
        target, _ = row_pointer(context, builder, signature.args[4], args[4])
        lanes = load_lanes(builder, source, args[1])
        scales, tables = [splat(builder, args[2])], [table(builder, args[3])]
        ((square, power),) = exponentials(context, builder, [lanes], scales, tables)
        store_lanes(builder, builder.fmul(square, power), target, args[1])
        after = builder.add(args[1], length)
        store_lanes(builder, exp2_lanes(builder, lanes), target, after)
        return context.get_dummy_value()

    number, place = jit.types.float32, jit.types.int64
    return jit.types.none(u, place, number, number, out), codegen


@jit.sequential
def _exponentials(u, scale, factor, out):  # type: ignore[no-untyped-def]
    for at in range(0, u.shape[0], 16):
        _sixteen(u, at, scale, factor, out)


@jit.sequential
def _one_by_one(u, out):  # type: ignore[no-untyped-def]
    for i in range(u.shape[0]):
        out[i] = exp2(u[i])


def computed() -> tuple[Any, Any]:
    """Exponents `[N]`, and what came of them."""
    u = np.linspace(-126, 126, 6_300 * LANES).astype(np.float32)
    out = np.empty((2, len(u)), np.float32)
    _exponentials(u, np.float32(0.75), np.float32(3.0), out)
    return u, out


def test_errors_are_within_what_is_stated() -> None:
    u, (by_table, _) = computed()
    exact = 3.0 * np.exp2(u.astype(np.float64) * 0.75)
    assert np.abs(by_table / exact - 1).max() < 1e-6


def test_sixteen_have_the_bits_of_one_after_the_other() -> None:
    u, (_, by_polynomial) = computed()
    single = np.empty_like(u)
    _one_by_one(u, single)
    assert by_polynomial.tobytes() == single.tobytes()


BITS = """
import hashlib
import numpy as np
from causalrn.model.ops.relation import cpu_whole
from tests.model.ops.cpu.test_exponentials import computed

a, b = np.random.default_rng(0).standard_normal((2, 2, 48, 37)).astype(np.float32)
out = np.empty_like(a[:, :40])
cpu_whole.forward(a, b, 40, np.float32(1e-6), 1, out, work=0)
print(hashlib.sha256(computed()[1].tobytes() + out.tobytes()).hexdigest())
"""


def test_every_processor_gets_the_same_bits() -> None:
    """Tables are permuted in one go, by halves, or one entry after the other."""
    processors = [
        {},
        {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma"},
        {"NUMBA_CPU_NAME": "sandybridge", "NUMBA_CPU_FEATURES": "+avx,+fma"},
    ]
    digests = {
        subprocess.run(
            [sys.executable, "-c", BITS],
            cwd=ROOT,
            env=os.environ | processor,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for processor in processors
    }
    assert len(digests) == 1
