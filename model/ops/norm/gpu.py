"""Normalized rows on a device, and the gradients of whole sequences of them."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from causalrn.model.ops.gpu.tiles import VARYING

_NUMBERS = 1024  # that one program normalizes, if rows are no longer


def rows_of(channels: int) -> dict[str, int]:
    """How many rows one program normalizes, of so many channels, a power of two."""
    return {"CHANNELS": channels, "ROWS": max(1, _NUMBERS // channels)}


@triton.jit
def centre(x, is_channel, n_channels):
    """Rows `[T, K]` without their means, and their deviations `[T, 1]`.

    Channels that are not there, but for `n_channels`, are zeros. The mean is taken out before
    squares are added up, so that nothing cancels; and what rounding left of it, where it dwarfs all
    else, after that.
    """
    centred = tl.where(is_channel, x - tl.sum(x, 1)[:, None] / n_channels, 0.0)
    centred = tl.where(is_channel, centred - tl.sum(centred, 1)[:, None] / n_channels, 0.0)
    return centred, tl.sqrt(tl.sum(centred * centred, 1) / n_channels)[:, None]


@triton.jit
def normalize(x, is_channel, n_channels, eps):
    """Rows `[T, K]`, of which `n_channels` are there and the others are zeros, normalized."""
    centred, deviation = centre(x, is_channel, n_channels)
    return centred / (deviation + eps)


@triton.jit(do_not_specialize=VARYING)
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


@triton.jit(do_not_specialize=VARYING)
def change_rows(x, g, change, n_rows, n_channels, eps, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """Write the gradient of rows `x` `[N, D]` to `change`, where `g` is that of the normalized."""
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS))[:, None].to(tl.int64)
    channel = tl.arange(0, CHANNELS)[None, :]
    is_channel = channel < n_channels
    is_there = (row < n_rows) & is_channel
    at = row * n_channels + channel
    centred, deviation = centre(tl.load(x + at, is_there, 0.0), is_channel, n_channels)
    given = tl.load(g + at, is_there, 0.0)
    scale = 1.0 / (deviation + eps)
    dot = (tl.sum(given * centred, 1) / n_channels)[:, None]
    curve = tl.where(deviation > 0.0, dot * scale / deviation, 0.0)
    mean = (tl.sum(given, 1) / n_channels)[:, None]
    tl.store(change + at, (given - mean - curve * centred) * scale, is_there)


def norm_rows(x: Tensor, z: Tensor, eps: float, *, exp: bool = False) -> None:
    """Write the normalized rows of `x` `[N, D]` to `z`, which may be `x`; or their exponentials."""
    n_rows, d = x.shape
    tile = rows_of(triton.next_power_of_2(d))
    normalize_rows[(triton.cdiv(n_rows, tile["ROWS"]),)](x, z, n_rows, d, eps, EXP=exp, **tile)


def norm(x: Tensor, eps: float) -> Tensor:
    """See `causalrn.model.ops.norm.norm`; differentiable."""
    result: Tensor = _Norm.apply(x, eps)  # type: ignore[no-untyped-call]
    return result


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        z = torch.empty_like(rows)
        norm_rows(rows, z, eps)
        ctx.eps = eps
        ctx.save_for_backward(rows)
        return z.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        g, change = grads[0].reshape(rows.shape).contiguous(), torch.empty_like(rows)
        n_rows, d = rows.shape
        tile = rows_of(triton.next_power_of_2(d))
        change_rows[(triton.cdiv(n_rows, tile["ROWS"]),)](
            rows, g, change, n_rows, d, ctx.eps, **tile
        )
        return change.view(grads[0].shape), None
