"""Pieces of kernels that several operations have."""

import torch
import triton
import triton.language as tl
from torch import Tensor

VARYING = ("n_rows", "n_pages_each", "n_runs", "length", "n_groups")
"""Arguments that change from step to step. Triton would compile anew where one becomes 1, or gets
or loses a factor of 16, and a request would wait for it."""

ALL_REGISTERS = {"maxnreg": 255}
"""A launch option. Left to itself, the assembler saves some for more warps, and spills."""

ONE_WARP = {"num_warps": 1}
"""A launch option, for programs with little to do: other warps would do the same once more, or have
to hand their sums over."""


@triton.jit
def widened(held):
    """Numbers of a pool as float32; what it has in 16 bits is bfloat16, `int16` to the compiler."""
    if held.dtype == tl.int16:
        # Triton's interpreter has no bfloat16 that can be relied on.
        held = (held.to(tl.int32) << 16).to(tl.float32, bitcast=True)
    return held


@triton.jit
def rounded(x, at):
    """What a pool keeps of float32, as float32: to the nearest, ties to even."""
    if at.dtype.element_ty == tl.int16:
        bits = x.to(tl.int32, bitcast=True)
        kept = (bits + 0x7FFF + ((bits >> 16) & 1)) & -0x10000
        x = tl.where(x == x, kept.to(tl.float32, bitcast=True), x)
    return x


@triton.jit
def store_memory(at, x, mask):
    """Store to a pool what `rounded` gave."""
    if at.dtype.element_ty == tl.int16:
        tl.store(at, (x.to(tl.int32, bitcast=True) >> 16).to(tl.int16), mask)
    else:
        tl.store(at, x, mask)


def as_stored(pool: Tensor) -> Tensor:
    """A tensor of a pool as kernels take it."""
    return pool.view(torch.int16) if pool.dtype == torch.bfloat16 else pool


@triton.jit
def positive(x):
    """0 where it is less. What is not a number stays so, which a GPU's maximum would not do."""
    return tl.where(x < 0.0, 0.0, x)


@triton.jit
def is_active(phase, mask):
    """Whether a mask has a phase; that of all phases is negative."""
    return (mask >> phase) & 1 != 0


@triton.jit
def gelu(x):
    """GPT-2's form of the GELU."""
    inner = 1.5957691216057308 * (x + 0.044715 * x * x * x)
    return x / (1.0 + tl.exp(-inner))
