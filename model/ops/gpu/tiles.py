"""Pieces of kernels that several operations have."""

import triton
import triton.language as tl

VARYING = ("n_rows", "n_pages_each", "n_runs", "length", "n_groups")
"""Arguments that change from step to step. Triton would compile anew where one becomes 1, or gets
or loses a factor of 16, and a request would wait for it."""

ALL_REGISTERS = {"maxnreg": 255}
"""A launch option. Left to itself, the assembler saves some for more warps, and spills."""


@triton.jit
def is_active(phase, mask):
    """Whether a mask has a phase; that of all phases is negative."""
    return (mask >> phase) & 1 != 0


@triton.jit
def gelu(x):
    """GPT-2's form of the GELU."""
    inner = 1.5957691216057308 * (x + 0.044715 * x * x * x)
    return x / (1.0 + tl.exp(-inner))
