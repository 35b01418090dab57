"""The separable relation over whole sequences on a device, and its gradients.

Both are running sums over tokens: forward of the exponentials of memories, from the first token on;
backward of what readers and their gradients weigh, from the last one back. A sequence is taken in
chunks of `CHUNK` tokens, which programs of one warp go through side by side, in three launches:
`sum_chunks` adds up each chunk, `add_chunks` puts in the place of each sum that of all chunks
before it, and `relate_chunks` or `change_chunks` goes through each chunk from there on. A sequence
of one chunk needs the last one alone. Each number is added up in the same order whatever else is in
the batch, so a sequence gets the same bits in any.

A sum is a pair of float32: what an addition loses goes to the second one. Together they keep about
48 bits, of which the result, in float32, has 24.

In numbers that are read from memory or written, forward takes 4 for each token and channel, and
backward 8; one of these, and two, have been read just before, by `sum_chunks`.

Common arguments: `a` and `b`, normalized readers and memories `[B, T, R]` float32; `g`, the
gradient of the result, of the same shape; `sums` `[2, B, n_chunks, R]` float32; `length`, T;
`n_groups`, B; `n_channels`, R. `BACKWARD`: which of the two sums. Chunks, and tokens in them, are
counted from the end then.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from causalrn.model.ops.gpu.tiles import VARYING
from causalrn.model.ops.norm.gpu import norm

CHUNK = 32
# A thread has four channels, so that it waits for four numbers at once. If a product became one
# with the sum that it goes to, what that sum loses would not be known.
TILE = {"CHANNELS": 128, "CHUNK": CHUNK, "num_warps": 1, "enable_fp_fusion": False}


@triton.jit
def _add(high, low, more, more_low):
    """The sum of two pairs."""
    total = high + more
    # What the sum of two floats loses to rounding is itself a float (Knuth's two-sum).
    back = total - high
    low += ((high - (total - back)) + (more - back)) + more_low
    high = total + low
    return high, low - (high - total)


@triton.jit
def _weight(a, g, place):
    """What a reader at a place, and its gradient, add to the sum of the memories that it sees."""
    return g * tl.exp(a) / (place + 1)


@triton.jit
def _tile(
    length, n_groups, n_channels, BACKWARD: tl.constexpr, CHANNELS: tl.constexpr,
    CHUNK: tl.constexpr,
):  # fmt: skip
    """What a program goes through.

    Returns:
        The place of the first token of its chunk, and how many there are; the way to the next one;
        where the channels of the first one are in `[B, T, R]`; whether they are there; and where
        those of the chunk are in a half of `sums`.
    """
    chunk, sequence = tl.program_id(0) // n_groups, (tl.program_id(0) % n_groups).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    place, step = chunk * CHUNK, 1
    n_tokens = tl.minimum(CHUNK, length - place)
    if BACKWARD:
        place, step = length - 1 - place, -1
    at = (sequence * length + place) * n_channels + channel
    in_sums = (sequence * tl.cdiv(length, CHUNK) + chunk) * n_channels + channel
    return place, n_tokens, step, at, channel < n_channels, in_sums


@triton.jit
def _half(length, n_groups, n_channels, CHUNK: tl.constexpr):
    """How many numbers come before the second part of a sum."""
    return tl.cast(n_groups, tl.int64) * tl.cdiv(length, CHUNK) * n_channels


@triton.jit(do_not_specialize=VARYING)
def sum_chunks(
    a, b, g, sums, length, n_groups, n_channels, BACKWARD: tl.constexpr, CHANNELS: tl.constexpr,
    CHUNK: tl.constexpr,
):  # fmt: skip
    """Write the sum of each chunk but the last to `sums`."""
    place, n_tokens, step, at, is_channel, in_sums = _tile(
        length, n_groups, n_channels, BACKWARD, CHANNELS, CHUNK
    )
    high, low = tl.zeros((CHANNELS,), tl.float32), tl.zeros((CHANNELS,), tl.float32)
    for _ in range(n_tokens):
        if BACKWARD:
            reader, given = tl.load(a + at, is_channel, 0.0), tl.load(g + at, is_channel, 0.0)
            more = _weight(reader, given, place)
        else:
            more = tl.exp(tl.load(b + at, is_channel, 0.0))
        high, low = _add(high, low, more, 0.0)
        place += step
        at += step * n_channels
    tl.store(sums + in_sums, high, is_channel)
    tl.store(sums + in_sums + _half(length, n_groups, n_channels, CHUNK), low, is_channel)


@triton.jit(do_not_specialize=VARYING)
def add_chunks(
    sums, length, n_groups, n_channels, CHANNELS: tl.constexpr, CHUNK: tl.constexpr
):  # fmt: skip
    """Put the sum of all chunks before each in the place of its own."""
    n_chunks = tl.cdiv(length, CHUNK)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    is_channel = channel < n_channels
    at = sums + tl.program_id(0).to(tl.int64) * n_chunks * n_channels + channel
    half = _half(length, n_groups, n_channels, CHUNK)
    high, low = tl.zeros((CHANNELS,), tl.float32), tl.zeros((CHANNELS,), tl.float32)
    for _ in range(n_chunks - 1):
        more, more_low = tl.load(at, is_channel, 0.0), tl.load(at + half, is_channel, 0.0)
        tl.store(at, high, is_channel)
        tl.store(at + half, low, is_channel)
        high, low = _add(high, low, more, more_low)
        at += n_channels
    tl.store(at, high, is_channel)
    tl.store(at + half, low, is_channel)


@triton.jit
def _before(sums, in_sums, length, n_groups, n_channels, is_channel, CHUNK: tl.constexpr):
    """The sum of the chunks before that of a program, which the first chunk does not read."""
    is_there = is_channel & (length > CHUNK)
    half = _half(length, n_groups, n_channels, CHUNK)
    high = tl.load(sums + in_sums, is_there, 0.0)
    return high, tl.load(sums + in_sums + half, is_there, 0.0)


@triton.jit(do_not_specialize=VARYING)
def relate_chunks(
    a, b, sums, out, length, n_groups, n_channels, CHANNELS: tl.constexpr, CHUNK: tl.constexpr
):
    """Write the exponentials of readers times the means of those of memories to `out`."""
    place, n_tokens, _, at, is_channel, in_sums = _tile(
        length, n_groups, n_channels, False, CHANNELS, CHUNK
    )
    high, low = _before(sums, in_sums, length, n_groups, n_channels, is_channel, CHUNK)
    for _ in range(n_tokens):
        reader, memory = tl.load(a + at, is_channel, 0.0), tl.load(b + at, is_channel, 0.0)
        high, low = _add(high, low, tl.exp(memory), 0.0)
        place += 1
        tl.store(out + at, tl.exp(reader) * (high / place), is_channel)
        at += n_channels


@triton.jit(do_not_specialize=VARYING)
def change_chunks(
    a, b, g, out, sums, da, db, length, n_groups, n_channels, CHANNELS: tl.constexpr,
    CHUNK: tl.constexpr,
):  # fmt: skip
    """Write the gradients of `a` and `b`; `out` is what `relate_chunks` wrote."""
    place, n_tokens, _, at, is_channel, in_sums = _tile(
        length, n_groups, n_channels, True, CHANNELS, CHUNK
    )
    high, low = _before(sums, in_sums, length, n_groups, n_channels, is_channel, CHUNK)
    for _ in range(n_tokens):
        reader, memory = tl.load(a + at, is_channel, 0.0), tl.load(b + at, is_channel, 0.0)
        given, result = tl.load(g + at, is_channel, 0.0), tl.load(out + at, is_channel, 0.0)
        tl.store(da + at, given * result, is_channel)
        high, low = _add(high, low, _weight(reader, given, place), 0.0)
        tl.store(db + at, tl.exp(memory) * high, is_channel)
        place -= 1
        at -= n_channels


def separable_relation(a: Tensor, b: Tensor, eps: float) -> Tensor:
    """See `causalrn.model.ops.relation.separable_relation`; differentiable, in float32."""
    return running_means(norm(a, eps), norm(b, eps))


def running_means(a: Tensor, b: Tensor) -> Tensor:
    """`exp(a_t)` times the mean over `v <= t` of `exp(b_v)`, differentiable.

    Args:
        a, b: `[B, T, H, K]` float32, contiguous, as is the result.
    """
    result: Tensor = _RunningMeans.apply(a, b)  # type: ignore[no-untyped-call]
    return result


def _sums_before(a: Tensor, b: Tensor, g: Tensor, *, backward: bool) -> Tensor:
    """What comes before each chunk; of a single one, nothing that is read."""
    batch, length, heads, k = a.shape
    n_chunks, n_parts = triton.cdiv(length, CHUNK), triton.cdiv(heads * k, TILE["CHANNELS"])
    sums = a.new_empty(2, batch, n_chunks, heads * k)
    if n_chunks > 1:
        sum_chunks[((n_chunks - 1) * batch, n_parts)](
            a, b, g, sums, length, batch, heads * k, BACKWARD=backward, **TILE
        )
        add_chunks[(batch, n_parts)](sums, length, batch, heads * k, **TILE)
    return sums


class _RunningMeans(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        batch, length, heads, k = a.shape
        sums, out = _sums_before(a, b, b, backward=False), torch.empty_like(a)
        grid = triton.cdiv(length, CHUNK) * batch, triton.cdiv(heads * k, TILE["CHANNELS"])
        relate_chunks[grid](a, b, sums, out, length, batch, heads * k, **TILE)
        ctx.save_for_backward(a, b, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        a, b, out = ctx.saved_tensors
        g = grads[0].contiguous()
        batch, length, heads, k = a.shape
        sums, da, db = (
            _sums_before(a, b, g, backward=True),
            torch.empty_like(a),
            torch.empty_like(b),
        )
        grid = triton.cdiv(length, CHUNK) * batch, triton.cdiv(heads * k, TILE["CHANNELS"])
        change_chunks[grid](a, b, g, out, sums, da, db, length, batch, heads * k, **TILE)
        return da, db
