"""The token shift over whole sequences on a device, and its gradients.

A program has a tile of tokens of one sequence and some channels, or, for the gradient of taps, one
tap. No two programs add to the same number, and each adds up in ascending order, so a sequence gets
the same bits in any batch.

In numbers of `x` that are read from memory or written, two outputs of W taps take 3 forward and 6
backward: rows are read once for each tap, but lie in caches after the first time. The same in
PyTorch (`reference.py`) takes 5W + 4 and at least 9W + 3, as every tap has a copy of its own, and W
of them are kept for the gradient.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from causalrn.model.ops.gpu.tiles import VARYING

ROWS, CHANNELS = 16, 64  # of a tile


@triton.jit
def _shifted(x, begin, place, length, d, channel, is_wanted):
    """Rows of `x` `[*, D]` of the sequence that begins there, with zeros where it has none."""
    is_there = is_wanted & (place >= 0) & (place < length)
    at = (begin + place)[:, None] * d + channel[None, :]
    return tl.load(x + at, is_there[:, None] & (channel < d)[None, :], 0.0)


@triton.jit(do_not_specialize=VARYING)
def shift_whole(
    x, weight, reaches, out, length, n_groups, d, width, OUTPUTS: tl.constexpr,
    ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Convolve `x` `[B, T, D]` with `weight` `[OUTPUTS, W, D]` into `out` `[OUTPUTS, B, T, D]`.

    Args:
        reaches: `[B, T]` int32, how many of the tokens before its own each token sees at most.
        n_groups: B.
    """
    place = tl.program_id(0) // n_groups * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    begin = (tl.program_id(0) % n_groups).to(tl.int64) * length
    is_row, is_channel = place < length, channel < d
    reach = tl.load(reaches + begin + place, is_row, 0)
    total = tl.zeros((ROWS, CHANNELS), tl.float32)
    second = tl.zeros((ROWS, CHANNELS), tl.float32)
    for tap in range(width):
        past = _shifted(x, begin, place - tap, length, d, channel, is_row & (reach >= tap))
        total += past * tl.load(weight + tap * d + channel, is_channel, 0.0)[None, :]
        if OUTPUTS == 2:
            taps = tl.load(weight + (width + tap) * d + channel, is_channel, 0.0)
            second += past * taps[None, :]
    at = out + (begin + place)[:, None] * d + channel[None, :]
    is_there = is_row[:, None] & is_channel[None, :]
    tl.store(at, total, is_there)
    if OUTPUTS == 2:
        tl.store(at + length.to(tl.int64) * n_groups * d, second, is_there)


@triton.jit(do_not_specialize=VARYING)
def add_token_gradients(
    weight, reaches, g, change, length, n_groups, d, width, OUTPUTS: tl.constexpr,
    ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Write the gradient of `x` to `change` `[B, T, D]`, given that of `out`, `g`."""
    place = tl.program_id(0) // n_groups * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    begin = (tl.program_id(0) % n_groups).to(tl.int64) * length
    is_channel = channel < d
    of_second = g + length.to(tl.int64) * n_groups * d
    total = tl.zeros((ROWS, CHANNELS), tl.float32)
    for tap in range(width):
        later = place + tap
        is_seen = tl.load(reaches + begin + later, later < length, -1) >= tap
        taps = tl.load(weight + tap * d + channel, is_channel, 0.0)[None, :]
        total += _shifted(g, begin, later, length, d, channel, is_seen) * taps
        if OUTPUTS == 2:
            taps = tl.load(weight + (width + tap) * d + channel, is_channel, 0.0)[None, :]
            total += _shifted(of_second, begin, later, length, d, channel, is_seen) * taps
    at = change + (begin + place)[:, None] * d + channel[None, :]
    tl.store(at, total, (place < length)[:, None] & is_channel[None, :])


@triton.jit(do_not_specialize=VARYING)
def add_tap_gradients(
    x, reaches, g, by_sequence, length, n_groups, d, width, OUTPUTS: tl.constexpr,
    ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Write each sequence's gradient of `weight` to `by_sequence` `[B, OUTPUTS, W, D]`."""
    sequence, tap = tl.program_id(0) // width, tl.program_id(0) % width
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    begin = sequence.to(tl.int64) * length
    of_second = g + length.to(tl.int64) * n_groups * d
    total = tl.zeros((ROWS, CHANNELS), tl.float32)
    second = tl.zeros((ROWS, CHANNELS), tl.float32)
    for first in range(0, length, ROWS):
        place = first + tl.arange(0, ROWS)
        is_seen = tl.load(reaches + begin + place, place < length, -1) >= tap
        past = _shifted(x, begin, place - tap, length, d, channel, is_seen)
        total += past * _shifted(g, begin, place, length, d, channel, is_seen)
        if OUTPUTS == 2:
            second += past * _shifted(of_second, begin, place, length, d, channel, is_seen)
    at = by_sequence + (sequence.to(tl.int64) * OUTPUTS * width + tap) * d + channel
    tl.store(at, tl.sum(total, 0), channel < d)
    if OUTPUTS == 2:
        tl.store(at + width * d, tl.sum(second, 0), channel < d)


def token_shift(x: Tensor, weight: Tensor, reaches: Tensor) -> Tensor:
    """See `causalrn.model.ops.token_shift`; differentiable, in float32."""
    result: Tensor = _TokenShift.apply(  # type: ignore[no-untyped-call]
        x.contiguous(), weight.contiguous(), reaches.int()
    )
    return result


class _TokenShift(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, reaches: Tensor) -> Tensor:
        batch, length, d = x.shape
        n_outputs, width = weight.shape[:2]
        out = x.new_empty(n_outputs, batch, length, d)
        ctx.sizes = length, batch, d, width
        ctx.tile = {"OUTPUTS": n_outputs, "ROWS": ROWS, "CHANNELS": CHANNELS}
        ctx.save_for_backward(x, weight, reaches)
        shift_whole[(triton.cdiv(length, ROWS) * batch, triton.cdiv(d, CHANNELS))](
            x, weight, reaches, out, *ctx.sizes, **ctx.tile
        )
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, reaches = ctx.saved_tensors
        length, batch, d, width = ctx.sizes
        g, dx = grads[0].contiguous(), torch.empty_like(x)
        by_sequence = x.new_empty(batch, *weight.shape)
        n_parts = triton.cdiv(d, CHANNELS)
        add_token_gradients[(triton.cdiv(length, ROWS) * batch, n_parts)](
            weight, reaches, g, dx, *ctx.sizes, **ctx.tile
        )
        add_tap_gradients[(batch * width, n_parts)](
            x, reaches, g, by_sequence, *ctx.sizes, **ctx.tile
        )
        return dx, by_sequence.sum(0), None
