"""The one door to Numba: compile options, disk cache, threads and the fast exponential.

Every compiled kernel of the project uses `kernel` or `inline`, so that compile options (SIMD, FMA
contraction, no GIL, cached on disk) are decided once.
"""

import hashlib
import math
import threading
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

# workqueue ships inside Numba on every platform; the other layers need system libraries. It does
# not tolerate two threads entering at once, which `_launch` rules out.
numba.config.THREADING_LAYER = "workqueue"

prange = numba.prange

# No 'nnan'/'ninf': a NaN must come out as a NaN. 'reassoc' lets the reductions over channels use
# SIMD lanes; 'contract' allows FMA.
_FASTMATH = {"reassoc", "contract", "nsz"}
_SOURCES = hashlib.sha256(
    b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.rglob("*.py")))
).hexdigest()[:16]
_launch = threading.Lock()
# Two threads gain less on fewer than this many exponentials than it costs to start them.
_PARALLEL_WORK = 100_000


class Kernel:
    """A compiled kernel in two forms: on all threads, or on the caller's alone.

    Launching threads costs more than a small job does, and far more on a busy machine. Both forms
    run the same compiled helpers (`inline`), in which all floating-point reductions belong, so
    that they give the same bits.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        options = {"nogil": True, "cache": True, "fastmath": _FASTMATH, "error_model": "numpy"}
        self.parallel = numba.njit(parallel=True, **options)(_renamed(function, "parallel"))
        self.serial = numba.njit(**options)(_renamed(function, "serial"))

    def __call__(self, *args: Any, work: float = math.inf) -> None:
        """Run the kernel.

        Args:
            args: of the kernel.
            work: about how many channels it touches or exponentials it takes; little work stays
                on the caller's thread.
        """
        if work < _PARALLEL_WORK:
            self.serial(*args)
        else:
            with _launch:
                self.parallel(*args)


def _renamed(function: Callable[..., Any], form: str) -> Callable[..., Any]:
    """A copy under a name of its own for Numba's cache on disk.

    The cache tells functions apart by file, name and line: not by options, and not by what they
    call in other files. So the name holds the form, and a digest of all that kernels are made of.
    """
    copy = FunctionType(function.__code__, function.__globals__, function.__name__)
    copy.__qualname__ = f"{function.__qualname__}_{form}_{_SOURCES}"
    copy.__module__ = function.__module__
    return copy


def kernel(function: Callable[..., Any]) -> Kernel:
    """Compile a kernel whose outer loop is a `prange`: no GIL, cached on disk."""
    return Kernel(function)


def inline(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a helper that kernels call; it becomes part of their compiled code."""
    return numba.njit(nogil=True, fastmath=_FASTMATH, error_model="numpy")(function)  # type: ignore[no-any-return]


def num_threads() -> int:
    """Threads that the next kernel uses."""
    return int(numba.get_num_threads())


def set_num_threads(n: int) -> None:
    """Set the threads that kernels use, from 1 to the number of cores that Numba saw at start."""
    limit = numba.config.NUMBA_NUM_THREADS
    if not 1 <= n <= limit:
        raise ValueError(f"number of threads must be between 1 and {limit}, got {n}")
    numba.set_num_threads(n)


@intrinsic  # type: ignore[untyped-decorator]
def _round_to_even(typingctx: Any, x: Any) -> Any:  # noqa: ARG001
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        fn = builder.module.declare_intrinsic("llvm.rint", [ir.FloatType()])
        return builder.call(fn, args)

    return types.float32(types.float32), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _add_to_exponent(typingctx: Any, x: Any, n: Any) -> Any:  # noqa: ARG001
    """x · 2^n for a float32 x and an integral float32 n, by integer addition to x's exponent."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        i32 = ir.IntType(32)
        bits = builder.bitcast(args[0], i32)
        n = builder.fptosi(args[1], i32)
        return builder.bitcast(builder.add(bits, builder.shl(n, i32(23))), ir.FloatType())

    return types.float32(types.float32, types.float32), codegen


# Minimax polynomial for 2^f on [-1/2, 1/2] with 2^0 exact; relative error 9.1e-8 before rounding.
_C0 = np.float32(1.0)
_C1 = np.float32(0.6931469776)
_C2 = np.float32(0.2402224208)
_C3 = np.float32(0.0555073374)
_C4 = np.float32(0.0096715128)
_C5 = np.float32(0.0013264727)


@numba.njit(nogil=True, fastmath={"contract"}, error_model="numpy")  # type: ignore[untyped-decorator]
def exp2(y: float) -> float:
    """2^y in float32 for -126 <= y <= 127, relative error below 3e-7; branch-free, vectorises."""
    n = _round_to_even(y)
    f = y - n
    p = _C5
    p = p * f + _C4
    p = p * f + _C3
    p = p * f + _C2
    p = p * f + _C1
    p = p * f + _C0
    return _add_to_exponent(p, n)  # type: ignore[no-any-return]
