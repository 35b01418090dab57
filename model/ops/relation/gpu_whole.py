"""The normalized relation over whole sequences on a device, and its gradients.

A program has a few readers of one sequence and one head, and adds up what they make of a run of
memories at a time, in ascending order. Gradients take two passes: in one, readers add up what all
their memories give them; in the other, memories what all their readers do. So no two programs add
to the same number, a sequence gets the same bits in any batch, and nothing of size T² is stored.

Common arguments: `a`, `b` and `g`, readers, memories and the gradient of the result, `[B, T, H, K]`
float32; `length`, T; `n_groups`, B·H; `n_heads`, H; `n_channels`, K.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.ops.gpu.tiles import ALL_REGISTERS, VARYING
from model.ops.relation.gpu import SEGMENT, dwarfs

_READERS = 4
_LARGEST_RUN = 16  # memories
_PER_THREAD = 32  # numbers of a tile of pairs; with more, what a pair needs spills
_GRADIENTS_PER_THREAD = 16  # which have several such tiles

_LOG2E = tl.constexpr(1.4426950408889634)


def relation_tile(channels: int) -> dict[str, int]:
    """How many readers a program of `relate_whole` has, and how many memories at a time.

    Args:
        channels: of a head, up to the next power of two.
    """
    return {"READERS": _READERS} | _tile(channels, _PER_THREAD)


def gradient_tile(channels: int) -> dict[str, int]:
    """How many readers or memories a program of `add_gradients` has, and how many of the others.

    Args:
        channels: as for `relation_tile`.
    """
    return {"OWN": _READERS} | _tile(channels, _GRADIENTS_PER_THREAD)


def _tile(channels: int, per_thread: int) -> dict[str, int]:
    warps = 4 if channels <= 128 else 8
    run = max(1, min(_LARGEST_RUN, warps * 32 * per_thread // (_READERS * channels)))
    return {"CHANNELS": channels, "RUN": run, "num_warps": warps} | ALL_REGISTERS


@triton.jit
def _centre(own, other, is_channel, n_channels):
    """Pairs of readers and memories without their means over channels, and their variances.

    Args:
        own, other: one side and the other, whose sums are `[R, M, K]`; zeros where no channel is.
        is_channel: `[1, 1, K]`, which of the channels there are; `n_channels` of them.

    Returns:
        `[R, M, K]` and `[R, M, 1]`.
    """
    pair = own + other
    mean = (tl.sum(pair, 2) / n_channels)[:, :, None]
    centred = tl.where(is_channel, pair - mean, 0.0)
    variance = (tl.sum(centred * centred, 2) / n_channels)[:, :, None]
    is_dwarfed = dwarfs(mean, variance)
    if tl.max(tl.where(is_dwarfed, 1, 0)) > 0:
        # What the sum of two floats loses to rounding is itself a float (Knuth's two-sum).
        back = pair - own
        lost = (own - (pair - back)) + (other - back)
        again = tl.where(is_channel, (pair - mean) + lost, 0.0)
        again -= (tl.sum(again, 2) / n_channels)[:, :, None]
        again = tl.where(is_channel, again, 0.0)
        squares = (tl.sum(again * again, 2) / n_channels)[:, :, None]
        centred = tl.where(is_dwarfed, again, centred)
        variance = tl.where(is_dwarfed, squares, variance)
    return centred, variance


@triton.jit
def _rows(x, first, group, length, n_heads, n_channels, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """Where the rows of a sequence and a head are in `x` `[B, T, H, K]`, from a place on.

    Returns:
        Pointers `[ROWS, CHANNELS]`, and which of them are to a number that there is.
    """
    sequence, head = tl.cast(group // n_heads, tl.int64), group % n_heads
    begin = ((sequence * length + first) * n_heads + head) * n_channels
    number, channel = tl.arange(0, ROWS)[:, None], tl.arange(0, CHANNELS)[None, :]
    is_there = (first + number < length) & (channel < n_channels)
    return x + begin + (number * n_heads * n_channels + channel), is_there


@triton.jit(do_not_specialize=VARYING)
def relate_whole(
    a, b, out, length, n_groups, n_heads, n_channels, eps, CHANNELS: tl.constexpr,
    READERS: tl.constexpr, RUN: tl.constexpr, SEGMENT: tl.constexpr,
):  # fmt: skip
    """Write the mean over `v <= t` of `exp(norm(a_t + b_v))` to `out` `[B, T, H, K]`."""
    # The last readers of all sequences come first, since they have most to do.
    first = (tl.num_programs(0) - 1 - tl.program_id(0)) // n_groups * READERS
    group = tl.program_id(0) % n_groups
    at, is_own = _rows(a, first, group, length, n_heads, n_channels, READERS, CHANNELS)
    own = tl.load(at, is_own, 0.0)[:, None, :]
    place = first + tl.arange(0, READERS)
    is_channel = (tl.arange(0, CHANNELS) < n_channels)[None, None, :]
    total = tl.zeros((READERS, CHANNELS), tl.float32)
    n_memories = tl.minimum(first + READERS, length)
    for begin in range(0, n_memories, SEGMENT):
        part = tl.zeros((READERS, CHANNELS), tl.float32)
        for run in range(begin, tl.minimum(begin + SEGMENT, n_memories), RUN):
            others, are_there = _rows(b, run, group, length, n_heads, n_channels, RUN, CHANNELS)
            held = tl.load(others, are_there, 0.0)[None, :, :]
            centred, variance = _centre(own, held, is_channel, n_channels)
            scale = 1.0 / (tl.sqrt(variance) + eps) * _LOG2E
            memory = run + tl.arange(0, RUN)
            is_seen = (memory[None, :] <= place[:, None])[:, :, None]
            part += tl.sum(tl.where(is_seen, tl.exp2(centred * scale), 0.0), 1)
        total += part
    to, _ = _rows(out, first, group, length, n_heads, n_channels, READERS, CHANNELS)
    tl.store(to, total / (place + 1)[:, None], is_own)


@triton.jit(do_not_specialize=VARYING)
def add_gradients(
    a, b, g, change, length, n_groups, n_heads, n_channels, eps, OF_READERS: tl.constexpr,
    CHANNELS: tl.constexpr, OWN: tl.constexpr, RUN: tl.constexpr,
):  # fmt: skip
    """Write the gradient of `relate_whole` with respect to readers, or to memories.

    Args:
        change: `[B, T, H, K]`, written.
        OF_READERS: whether a program's own rows are readers and the others memories, or the other
            way round.
    """
    first = tl.program_id(0) // n_groups * OWN
    if OF_READERS:  # those who have most to do come first
        first = (tl.num_programs(0) - 1 - tl.program_id(0)) // n_groups * OWN
    group = tl.program_id(0) % n_groups
    place = first + tl.arange(0, OWN)
    own_side, other_side = (a, b) if OF_READERS else (b, a)
    at, is_own = _rows(own_side, first, group, length, n_heads, n_channels, OWN, CHANNELS)
    own = tl.load(at, is_own, 0.0)[:, None, :]
    is_channel = (tl.arange(0, CHANNELS) < n_channels)[None, None, :]
    begin, end = first, length
    if OF_READERS:
        begin, end = 0, tl.minimum(first + OWN, length)
        of_own, _ = _rows(g, first, group, length, n_heads, n_channels, OWN, CHANNELS)
        given = (tl.load(of_own, is_own, 0.0) / (place + 1)[:, None])[:, None, :]
    total = tl.zeros((OWN, CHANNELS), tl.float32)
    for run in range(begin, end, RUN):
        other = run + tl.arange(0, RUN)
        others, are_there = _rows(
            other_side, run, group, length, n_heads, n_channels, RUN, CHANNELS
        )  # fmt: skip
        held = tl.load(others, are_there, 0.0)[None, :, :]
        if OF_READERS:
            is_seen = (other[None, :] <= place[:, None])[:, :, None]
            weighed = given
        else:
            is_seen = ((place[:, None] <= other[None, :]) & (other < length)[None, :])[:, :, None]
            of_others, _ = _rows(g, run, group, length, n_heads, n_channels, RUN, CHANNELS)
            weighed = tl.load(of_others, are_there, 0.0) / (other + 1)[:, None]
            weighed = weighed[None, :, :]
        centred, variance = _centre(own, held, is_channel, n_channels)
        deviation = tl.sqrt(variance)
        scale = 1.0 / (deviation + eps)
        y = weighed * scale * tl.exp2(centred * scale * _LOG2E)
        dot = (tl.sum(y * centred, 2) / n_channels)[:, :, None]
        curve = tl.where(deviation > 0.0, dot * scale / deviation, 0.0)
        total += tl.sum(tl.where(is_seen, y - curve * centred, 0.0), 1)
    total -= (tl.sum(total, 1) / n_channels)[:, None]
    to, _ = _rows(change, first, group, length, n_heads, n_channels, OWN, CHANNELS)
    tl.store(to, total, is_own)


def normalized_relation(a: Tensor, b: Tensor, eps: float) -> Tensor:
    """See `model.ops.relation.normalized_relation`; differentiable."""
    result: Tensor = _NormalizedRelation.apply(  # type: ignore[no-untyped-call]
        a.contiguous(), b.contiguous(), eps
    )
    return result


class _NormalizedRelation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, eps: float) -> Tensor:
        batch, length, heads, k = a.shape
        ctx.eps = eps
        ctx.save_for_backward(a, b)
        out = torch.empty_like(a)
        channels, groups = triton.next_power_of_2(k), batch * heads
        relate_whole[(triton.cdiv(length, _READERS) * groups,)](
            a, b, out, length, groups, heads, k, eps, SEGMENT=SEGMENT, **relation_tile(channels)
        )
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        a, b = ctx.saved_tensors
        batch, length, heads, k = a.shape
        g, groups = grads[0].contiguous(), batch * heads
        tile = gradient_tile(triton.next_power_of_2(k))
        da, db = torch.empty_like(a), torch.empty_like(b)
        grid = (triton.cdiv(length, tile["OWN"]) * groups,)
        for change, of_readers in ((da, True), (db, False)):
            add_gradients[grid](
                a, b, g, change, length, groups, heads, k, ctx.eps, OF_READERS=of_readers, **tile
            )
        return da, db, None
