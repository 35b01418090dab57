"""Pieces of kernels that several operations have."""

import triton
import triton.language as tl


@triton.jit
def normalize(x, is_channel, n_channels, eps):
    """Rows `[T, K]`, of which `n_channels` are there and the others are zeros, normalized.

    The mean is taken out before squares are added up, so that nothing cancels; and what rounding
    left of it, where it dwarfs all else, after that.
    """
    centred = tl.where(is_channel, x - tl.sum(x, 1)[:, None] / n_channels, 0.0)
    centred = tl.where(is_channel, centred - tl.sum(centred, 1)[:, None] / n_channels, 0.0)
    deviation = tl.sqrt(tl.sum(centred * centred, 1) / n_channels)
    return centred / (deviation + eps)[:, None]


@triton.jit
def is_active(phase, mask):
    """Whether a mask has a phase; that of all phases is negative."""
    return (mask >> phase) & 1 != 0


@triton.jit
def gelu(x):
    """GPT-2's form of the GELU."""
    inner = 1.5957691216057308 * (x + 0.044715 * x * x * x)
    return x / (1.0 + tl.exp(-inner))
