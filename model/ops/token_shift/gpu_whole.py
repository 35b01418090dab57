"""The token shift over whole sequences on a device, and its gradients.

A program has a tile of tokens of one sequence and some channels, or, for the gradient of taps, one
tap. No two programs add to the same number, and each adds up in ascending order, so a sequence gets
the same bits in any batch.

In numbers of `x` that are read from memory or written, W taps take 3 forward and 6 backward: rows
are read once for each tap, but lie in caches after the first time. The same in PyTorch
(`reference.py`) takes 5W + 4 and at least 9W + 3, as every tap has a copy of its own, and W of them
are kept for the gradient.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.ops.gpu.tiles import VARYING

ROWS, CHANNELS = 16, 64  # of a tile


@triton.jit
def _shifted(x, begin, place, length, d, channel, is_wanted):
    """Rows of `x` `[*, D]` of the sequence that begins there, with zeros where it has none."""
    is_there = is_wanted & (place >= 0) & (place < length)
    at = (begin + place)[:, None] * d + channel[None, :]
    return tl.load(x + at, is_there[:, None] & (channel < d)[None, :], 0.0)


@triton.jit(do_not_specialize=VARYING)
def shift_whole(
    x, weight, reaches, out, length, n_groups, d, width, ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):  # fmt: skip
    """Convolve `x` `[B, T, D]` with `weight` `[2, W, D]` into `out` `[2, B, T, D]`.

    Args:
        reaches: `[B, T]` int32, how many of the tokens before its own each token sees at most.
        n_groups: B.
    """
    place = tl.program_id(0) // n_groups * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    begin = (tl.program_id(0) % n_groups).to(tl.int64) * length
    is_row, is_channel = place < length, channel < d
    reach = tl.load(reaches + begin + place, is_row, 0)
    readers = tl.zeros((ROWS, CHANNELS), tl.float32)
    memories = tl.zeros((ROWS, CHANNELS), tl.float32)
    for tap in range(width):
        past = _shifted(x, begin, place - tap, length, d, channel, is_row & (reach >= tap))
        readers += past * tl.load(weight + tap * d + channel, is_channel, 0.0)[None, :]
        memories += past * tl.load(weight + (width + tap) * d + channel, is_channel, 0.0)[None, :]
    at = out + (begin + place)[:, None] * d + channel[None, :]
    is_there = is_row[:, None] & is_channel[None, :]
    tl.store(at, readers, is_there)
    tl.store(at + length.to(tl.int64) * n_groups * d, memories, is_there)


@triton.jit(do_not_specialize=VARYING)
def add_token_gradients(
    weight, reaches, g, change, length, n_groups, d, width, ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):  # fmt: skip
    """Write the gradient of `x` to `change` `[B, T, D]`, given that of `out` `[2, B, T, D]`."""
    place = tl.program_id(0) // n_groups * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    begin = (tl.program_id(0) % n_groups).to(tl.int64) * length
    is_channel = channel < d
    of_memories = g + length.to(tl.int64) * n_groups * d
    total = tl.zeros((ROWS, CHANNELS), tl.float32)
    for tap in range(width):
        later = place + tap
        is_seen = tl.load(reaches + begin + later, later < length, -1) >= tap
        reader = tl.load(weight + tap * d + channel, is_channel, 0.0)[None, :]
        memory = tl.load(weight + (width + tap) * d + channel, is_channel, 0.0)[None, :]
        total += _shifted(g, begin, later, length, d, channel, is_seen) * reader
        total += _shifted(of_memories, begin, later, length, d, channel, is_seen) * memory
    at = change + (begin + place)[:, None] * d + channel[None, :]
    tl.store(at, total, (place < length)[:, None] & is_channel[None, :])


@triton.jit(do_not_specialize=VARYING)
def add_tap_gradients(
    x, reaches, g, by_sequence, length, n_groups, d, width, ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):  # fmt: skip
    """Write what each sequence gives the gradient of `weight` to `by_sequence` `[B, 2, W, D]`."""
    sequence, tap = tl.program_id(0) // width, tl.program_id(0) % width
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    begin = sequence.to(tl.int64) * length
    of_memories = g + length.to(tl.int64) * n_groups * d
    reader = tl.zeros((ROWS, CHANNELS), tl.float32)
    memory = tl.zeros((ROWS, CHANNELS), tl.float32)
    for first in range(0, length, ROWS):
        place = first + tl.arange(0, ROWS)
        is_seen = tl.load(reaches + begin + place, place < length, -1) >= tap
        past = _shifted(x, begin, place - tap, length, d, channel, is_seen)
        reader += past * _shifted(g, begin, place, length, d, channel, is_seen)
        memory += past * _shifted(of_memories, begin, place, length, d, channel, is_seen)
    at = by_sequence + (sequence.to(tl.int64) * 2 * width + tap) * d + channel
    tl.store(at, tl.sum(reader, 0), channel < d)
    tl.store(at + width * d, tl.sum(memory, 0), channel < d)


def token_shift(x: Tensor, weight: Tensor, reaches: Tensor) -> Tensor:
    """See `model.ops.token_shift`; differentiable, in float32."""
    result: Tensor = _TokenShift.apply(  # type: ignore[no-untyped-call]
        x.contiguous(), weight.contiguous(), reaches.int()
    )
    return result


class _TokenShift(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, reaches: Tensor) -> Tensor:
        batch, length, d = x.shape
        out = x.new_empty(2, batch, length, d)
        ctx.sizes = length, batch, d, weight.shape[1]
        ctx.save_for_backward(x, weight, reaches)
        shift_whole[(triton.cdiv(length, ROWS) * batch, triton.cdiv(d, CHANNELS))](
            x, weight, reaches, out, *ctx.sizes, ROWS=ROWS, CHANNELS=CHANNELS
        )
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, reaches = ctx.saved_tensors
        length, batch, d, width = ctx.sizes
        g, dx = grads[0].contiguous(), torch.empty_like(x)
        by_sequence = x.new_empty(batch, 2, width, d)
        n_parts = triton.cdiv(d, CHANNELS)
        add_token_gradients[(triton.cdiv(length, ROWS) * batch, n_parts)](
            weight, reaches, g, dx, *ctx.sizes, ROWS=ROWS, CHANNELS=CHANNELS
        )
        add_tap_gradients[(batch * width, n_parts)](
            x, reaches, g, by_sequence, *ctx.sizes, ROWS=ROWS, CHANNELS=CHANNELS
        )
        return dx, by_sequence.sum(0), None
