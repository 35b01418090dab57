"""Normalized rows on a device."""

import triton
import triton.language as tl
from torch import Tensor

_NUMBERS = 1024  # that one program normalizes, if rows are no longer


def rows_of(channels: int) -> dict[str, int]:
    """How many rows one program normalizes, of so many channels, a power of two."""
    return {"CHANNELS": channels, "ROWS": max(1, _NUMBERS // channels)}


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
def normalize_rows(
    x, z, n_rows, n_channels, eps, EXP: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr
):
    """Write the normalized rows of `x` `[N, D]` to `z`, or their exponentials."""
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS))[:, None].to(tl.int64)
    channel = tl.arange(0, CHANNELS)[None, :]
    is_channel = channel < n_channels
    is_there = (row < n_rows) & is_channel
    own = tl.load(x + row * n_channels + channel, is_there, 0.0)
    own = normalize(own, is_channel, n_channels, eps)
    if EXP:
        own = tl.exp(own)
    tl.store(z + row * n_channels + channel, own, is_there)


def norm_rows(x: Tensor, z: Tensor, eps: float, *, exp: bool = False) -> None:
    """Write the normalized rows of `x` `[N, D]` to `z`, which may be `x`; or their exponentials."""
    n_rows, d = x.shape
    tile = rows_of(triton.next_power_of_2(d))
    normalize_rows[(triton.cdiv(n_rows, tile["ROWS"]),)](x, z, n_rows, d, eps, EXP=exp, **tile)
