"""The limit that kernels of relations are held against: how fast exponentials alone can be.

It is the rate of `2^y` by the polynomial of `causalrn.model.ops.cpu.lanes.exp2`, by vectors of
sixteen, over data that stays in the first level of caches, each added to a sum.
"""

import time
from typing import Any

import numpy as np

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.exponentials import exp2_lanes
from causalrn.model.ops.cpu.lanes import for_channels, load_lanes, row_pointer, store_lanes

_ROW = 2048
_ROUNDS = 10_000  # some 5 ms


@jit.intrinsic
def _add_exponentials(typingctx: Any, x: Any, row: Any, out: Any) -> Any:  # noqa: ARG001
    """out[row] += 2^x[row]; a row has whole vectors."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, length = row_pointer(context, builder, signature.args[0], args[0], args[1])
        target, _ = row_pointer(context, builder, signature.args[2], args[2], args[1])

        def body(at: Any, used: Any) -> None:
            power = exp2_lanes(builder, load_lanes(builder, source, at, used))
            total = builder.fadd(load_lanes(builder, target, at, used), power)
            store_lanes(builder, total, target, at, used)

        for_channels(builder, length, body)
        return context.get_dummy_value()

    return jit.types.none(x, jit.types.int64, out), codegen


@jit.kernel
def _exponentials(x, rounds, out):  # type: ignore[no-untyped-def]
    for row in jit.prange(x.shape[0]):
        for _ in range(rounds):
            _add_exponentials(x, row, out)


def rate(n_threads: int) -> float:
    """Exponentials a second that this many threads compute together, measured once."""
    x = np.zeros((n_threads, _ROW), np.float32)
    out = np.zeros_like(x)
    work = float("inf") if n_threads > 1 else 0.0
    _exponentials(x, 1, out, work=work)
    began = time.perf_counter()
    _exponentials(x, _ROUNDS, out, work=work)
    return x.size * _ROUNDS / (time.perf_counter() - began)
