"""The normalized relation over whole sequences on a device, and its gradients.

A thread has a few pairs, and goes over their channels: for their squares, for their exponentials,
and for a gradient once more. So no sum over channels needs another thread, and what a pair is
scaled by is computed once. A program, of one warp, has `OWN` readers of one sequence and head, and
adds up what they make of `RUN` memories at a time, in ascending order, in arrays that nobody else
writes to. For the gradient of memories it has `OWN` memories, and takes `RUN` readers at a time. So
a sequence gets the same bits in any batch, and nothing of size T² is stored: each pair is scored
once for its reader, and once for its memory.

Where float32 is not exact enough for a pair of an own row and a run, that row and run are left out,
and done again without their means by functions `_..._with_care`, which few runs take.

Common arguments: `a`, `b` and `g`, readers, memories and the gradient of the result over the number
of memories, `[B·H, D, W]` float32, as `causalrn.model.ops.relation.gpu_channels` lays them out;
`a_totals`, `b_totals`, the sums of rows from there, `[2, B·H, W]`; `length`, T; `n_groups`, B·H;
`n_channels`, K. Of a program: `own` and `other`, pointers to the first channel of its own rows
`[OWN]` and of a run of rows on the other side `[RUN]`; `width`, W, the way to the next channel;
`own_totals` and `other_totals`, to the sums of these rows; `n_rows`, the way to the second part of
a sum; `to`, to the first channel of what is added to. All that is of pairs is `[RUN, OWN]`.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from causalrn.model.ops.gpu.tiles import VARYING
from causalrn.model.ops.relation.gpu import SEGMENT, dwarfs
from causalrn.model.ops.relation.gpu_channels import DEPTH, WIDTH, turned, turned_back

# Two own rows for each thread: both use what it loads of a row on the other side. Registers are few
# enough for 16 warps on an SM, or 12, which wait for memory in turn.
_TILE = {"OWN": WIDTH, "RUN": 16, "FEW": 4, "DEPTH": DEPTH, "num_warps": 1}
RELATION_TILE = _TILE | {"maxnreg": 128}
GRADIENT_TILE = _TILE | {"maxnreg": 168}

_LOG2E = tl.constexpr(1.4426950408889634)
_LN2 = tl.constexpr(0.6931471805599453)
_NEVER = tl.constexpr(-1e4)  # finite, since zero times it is to be zero
_FAR = tl.constexpr(1e30)  # a mean that leaves nothing else of a pair


@triton.jit
def _pair(own, other, channel):
    """A channel of all pairs."""
    return tl.load(own + channel)[None, :] + tl.load(other + channel)[:, None]


@triton.jit
def _mean(own_totals, other_totals, n_rows, n_channels):
    """The means of pairs over channels."""
    high = tl.load(own_totals)[None, :] + tl.load(other_totals)[:, None]
    low = tl.load(own_totals + n_rows)[None, :] + tl.load(other_totals + n_rows)[:, None]
    return (high + low) * (1.0 / n_channels)


@triton.jit
def _score(
    own, other, own_totals, other_totals, n_rows, is_seen, n_channels, width, eps,
    OWN: tl.constexpr, RUN: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """What pairs are scaled by.

    Returns:
        A scale and a shift, with which `2^(scale * pair + shift)` is the exponential of the
        normalized pair, and 0 if it is not seen or its own row is left out; and `[OWN]`, not 0
        where an own row is left out.
    """
    squares = tl.zeros((RUN, OWN), tl.float32)
    for channels in range(0, n_channels * width, DEPTH * width):
        for number in tl.static_range(DEPTH):  # at once, so that they wait for memory together
            pair = _pair(own, other, channels + number * width)
            squares += pair * pair
    mean = _mean(own_totals, other_totals, n_rows, n_channels)
    variance = squares * (1.0 / n_channels) - mean * mean
    root = tl.rsqrt(variance)
    # 1 / (deviation + eps), as eps is at most a 256th of the deviation.
    scale = root * (1.0 - eps * root * (1.0 - eps * root)) * _LOG2E
    is_hard = is_seen & (dwarfs(mean, variance) | (variance <= 65536.0 * eps * eps))
    is_left_out = tl.max(tl.where(is_hard, 1, 0), 0)
    counts = is_seen & (is_left_out == 0)[None, :]
    shift = tl.where(counts, -mean * scale, _NEVER)
    return tl.where(counts, scale, 0.0), shift, is_left_out


@triton.jit
def _centred(own, other, channel, mean, rest):
    """A channel of all pairs without their means over channels, which are `mean + rest`."""
    one, two = tl.load(own + channel)[None, :], tl.load(other + channel)[:, None]
    pair = one + two
    # What the sum of two floats loses to rounding is itself a float (Knuth's two-sum).
    back = pair - one
    lost = (one - (pair - back)) + (two - back)
    return ((pair - mean) + lost) - rest


@triton.jit
def _score_with_care(
    own, other, own_totals, other_totals, n_rows, counts, n_channels, width, eps,
    OWN: tl.constexpr, RUN: tl.constexpr,
):  # fmt: skip
    """What pairs without their means are scaled by.

    Returns:
        Their means, in two parts, of which the second is so large for pairs that do not count that
        their exponentials are 0; a scale; and 1 over the deviation, or 0.
    """
    mean = tl.where(counts, _mean(own_totals, other_totals, n_rows, n_channels), 0.0)
    rest, squares = tl.zeros((RUN, OWN), tl.float32), tl.zeros((RUN, OWN), tl.float32)
    for channel in range(0, n_channels * width, width):
        rest += _centred(own, other, channel, mean, 0.0)
    rest = rest * (1.0 / n_channels)
    for channel in range(0, n_channels * width, width):
        centred = _centred(own, other, channel, mean, rest)
        squares += centred * centred
    variance = squares * (1.0 / n_channels)
    inverse = tl.where(counts & (variance > 0.0), tl.rsqrt(variance), 0.0)
    scale = 1.0 / (variance * inverse + eps) * _LOG2E
    return mean, tl.where(counts, rest, _FAR), tl.where(counts, scale, 1.0), inverse


@triton.jit
def _relate(own, other, to, scale, shift, n_channels, width):
    for channel in range(0, n_channels * width, width):
        given = tl.exp2(tl.fma(_pair(own, other, channel), scale, shift))
        at = to + channel
        tl.store(at, tl.load(at) + tl.sum(given, 0))


@triton.jit
def _relate_with_care(
    own, other, own_totals, other_totals, n_rows, to, counts, n_channels, width, eps,
    OWN: tl.constexpr, RUN: tl.constexpr,
):  # fmt: skip
    mean, rest, scale, _ = _score_with_care(
        own, other, own_totals, other_totals, n_rows, counts, n_channels, width, eps, OWN, RUN
    )  # fmt: skip
    for channel in range(0, n_channels * width, width):
        given = tl.exp2(_centred(own, other, channel, mean, rest) * scale)
        at = to + channel
        tl.store(at, tl.load(at) + tl.sum(given, 0))


@triton.jit(do_not_specialize=(*VARYING, "n_channels"))
def relate_whole(
    a, b, a_totals, b_totals, part, out, length, n_groups, n_channels, eps, OWN: tl.constexpr,
    RUN: tl.constexpr, FEW: tl.constexpr, DEPTH: tl.constexpr, SEGMENT: tl.constexpr,
):  # fmt: skip
    """Add the sum over `v <= t` of `exp(norm(a_t + b_v))` to `out`.

    Args:
        part, out: `[B·H, D, W]`, zeros; in `part`, zeros are left.
        FEW: how many rows of a run are done at a time where care is needed.
    """
    # The last readers of all sequences come first, since they have most to do.
    first = (tl.num_programs(0) - 1 - tl.program_id(0)) // n_groups * OWN
    group, width = tl.program_id(0) % n_groups, tl.cdiv(length, OWN) * OWN
    # Each thread loads its rows one by one: if it had neighbours, all would go to other threads
    # before they become pairs.
    place = first + tl.max_contiguous(tl.arange(0, OWN), 1)
    before = tl.cast(group, tl.int64) * (tl.cdiv(n_channels, DEPTH) * DEPTH * width)
    n_rows = n_groups * width
    own, to, out = a + before + place, part + before + place, out + before + place
    own_totals, totals = a_totals + group * width + place, b_totals + group * width
    end = tl.minimum(first + OWN, length)
    for begin in range(0, end, SEGMENT):
        for run in range(begin, tl.minimum(begin + SEGMENT, end), RUN):
            row = run + tl.arange(0, RUN)
            scale, shift, is_left_out = _score(
                own, b + before + row, own_totals, totals + row, n_rows,
                _is_seen(place, row, length, True), n_channels, width, eps, OWN, RUN, DEPTH,
            )  # fmt: skip
            _relate(own, b + before + row, to, scale, shift, n_channels, width)
            if tl.max(is_left_out, 0) > 0:
                for few in range(run, run + RUN, FEW):
                    some = few + tl.arange(0, FEW)
                    counts = _is_seen(place, some, length, True) & (is_left_out > 0)[None, :]
                    _relate_with_care(
                        own, b + before + some, own_totals, totals + some, n_rows, to, counts,
                        n_channels, width, eps, OWN, FEW,
                    )  # fmt: skip
        for channel in range(0, n_channels * width, width):
            tl.store(out + channel, tl.load(out + channel) + tl.load(to + channel))
            tl.store(to + channel, tl.zeros((OWN,), tl.float32))


@triton.jit
def _is_seen(place, row, length, OF_READERS: tl.constexpr):
    """Which pairs of own rows, at `place`, and others there are; own rows are readers, or not."""
    own, other = place[None, :], row[:, None]
    reader, memory = (own, other) if OF_READERS else (other, own)
    return (memory <= reader) & (reader < length)


@triton.jit
def _weight(own_g, other_g, channel, OF_READERS: tl.constexpr):
    """A channel of what the results of readers weigh; those are own rows, or others."""
    return tl.load(own_g + channel)[None, :] if OF_READERS else tl.load(other_g + channel)[:, None]


@triton.jit
def _change(
    own, other, own_g, other_g, to, scale, shift, n_channels, width, eps,
    OF_READERS: tl.constexpr, OWN: tl.constexpr, RUN: tl.constexpr,
):  # fmt: skip
    dot = tl.zeros((RUN, OWN), tl.float32)
    for channel in range(0, n_channels * width, width):
        x = tl.fma(_pair(own, other, channel), scale, shift)
        y = _weight(own_g, other_g, channel, OF_READERS) * tl.exp2(x)
        dot += y * x
        at = to + channel
        tl.store(at, tl.load(at) + _LN2 * tl.sum(scale * y, 0))
    scale *= _LN2
    # 1 / deviation, as eps is at most a 256th of it.
    inverse = scale * (1.0 + eps * scale * (1.0 + eps * scale))
    curve = dot * (_LN2 / n_channels) * scale * inverse
    # Of the means of pairs, this takes the same from all channels: in the end, it is taken away.
    for channel in range(0, n_channels * width, width):
        at = to + channel
        tl.store(at, tl.load(at) - tl.sum(curve * _pair(own, other, channel), 0))


@triton.jit
def _change_with_care(
    own, other, own_totals, other_totals, n_rows, own_g, other_g, to, counts, n_channels, width,
    eps, OF_READERS: tl.constexpr, OWN: tl.constexpr, RUN: tl.constexpr,
):  # fmt: skip
    mean, rest, scale, inverse = _score_with_care(
        own, other, own_totals, other_totals, n_rows, counts, n_channels, width, eps, OWN, RUN
    )  # fmt: skip
    dot = tl.zeros((RUN, OWN), tl.float32)
    for channel in range(0, n_channels * width, width):
        x = _centred(own, other, channel, mean, rest) * scale
        y = _weight(own_g, other_g, channel, OF_READERS) * tl.exp2(x)
        dot += y * x
        at = to + channel
        tl.store(at, tl.load(at) + _LN2 * tl.sum(scale * y, 0))
    curve = dot * (_LN2 * _LN2 / n_channels) * scale * inverse
    for channel in range(0, n_channels * width, width):
        at = to + channel
        tl.store(at, tl.load(at) - tl.sum(curve * _centred(own, other, channel, mean, rest), 0))


@triton.jit(do_not_specialize=(*VARYING, "n_channels"))
def add_gradients(
    a, b, g, a_totals, b_totals, change, length, n_groups, n_channels, eps,
    OF_READERS: tl.constexpr, OWN: tl.constexpr, RUN: tl.constexpr, FEW: tl.constexpr,
    DEPTH: tl.constexpr,
):  # fmt: skip
    """Add the gradient of `relate_whole` with respect to readers, or to memories.

    Args:
        change: `[B·H, D, W]`, zeros; its means over channels are left to be taken away.
        OF_READERS: whether a program's own rows are readers and the others memories, or the other
            way round.
        FEW: as for `relate_whole`.
    """
    first = tl.program_id(0) // n_groups * OWN
    if OF_READERS:  # those who have most to do come first
        first = (tl.num_programs(0) - 1 - tl.program_id(0)) // n_groups * OWN
    group, width = tl.program_id(0) % n_groups, tl.cdiv(length, OWN) * OWN
    place = first + tl.max_contiguous(tl.arange(0, OWN), 1)  # as in `relate_whole`
    before = tl.cast(group, tl.int64) * (tl.cdiv(n_channels, DEPTH) * DEPTH * width)
    n_rows = n_groups * width
    own_side, others = (a, b) if OF_READERS else (b, a)
    own_sums, totals = (a_totals, b_totals) if OF_READERS else (b_totals, a_totals)
    own, own_g, to = own_side + before + place, g + before + place, change + before + place
    own_totals = own_sums + group * width + place
    others, totals, g = others + before, totals + group * width, g + before
    begin, end = first, length
    if OF_READERS:
        begin, end = 0, tl.minimum(first + OWN, length)
    for run in range(begin, end, RUN):
        row = run + tl.arange(0, RUN)
        scale, shift, is_left_out = _score(
            own, others + row, own_totals, totals + row, n_rows,
            _is_seen(place, row, length, OF_READERS), n_channels, width, eps, OWN, RUN, DEPTH,
        )  # fmt: skip
        _change(
            own, others + row, own_g, g + row, to, scale, shift, n_channels, width, eps,
            OF_READERS, OWN, RUN,
        )  # fmt: skip
        if tl.max(is_left_out, 0) > 0:
            for few in range(run, run + RUN, FEW):
                some = few + tl.arange(0, FEW)
                counts = _is_seen(place, some, length, OF_READERS) & (is_left_out > 0)[None, :]
                _change_with_care(
                    own, others + some, own_totals, totals + some, n_rows, own_g, g + some, to,
                    counts, n_channels, width, eps, OF_READERS, OWN, FEW,
                )  # fmt: skip


def normalized_relation(a: Tensor, b: Tensor, eps: float) -> Tensor:
    """See `causalrn.model.ops.relation.normalized_relation`; differentiable."""
    result: Tensor = _NormalizedRelation.apply(a, b, eps)  # type: ignore[no-untyped-call]
    return result


class _NormalizedRelation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, eps: float) -> Tensor:
        ctx.eps = eps
        ctx.save_for_backward(a, b)
        (readers, a_totals), (memories, b_totals) = turned(a), turned(b)
        groups, _, width = readers.shape
        part, out = torch.zeros_like(readers), torch.zeros_like(readers)
        relate_whole[(width // WIDTH * groups,)](
            readers, memories, a_totals, b_totals, part, out, a.shape[1], groups, a.shape[3], eps,
            SEGMENT=SEGMENT, **RELATION_TILE,
        )  # fmt: skip
        return turned_back(out, a, centres=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        a, b = ctx.saved_tensors
        (readers, a_totals), (memories, b_totals) = turned(a), turned(b)
        weights, _ = turned(grads[0], divides=True)
        groups, _, width = readers.shape
        grid = (width // WIDTH * groups,)
        changes = []
        for of_readers in (True, False):
            change = torch.zeros_like(readers)
            add_gradients[grid](
                readers, memories, weights, a_totals, b_totals, change, a.shape[1], groups,
                a.shape[3], ctx.eps, OF_READERS=of_readers, **GRADIENT_TILE,
            )  # fmt: skip
            changes.append(turned_back(change, a, centres=True))
        return changes[0], changes[1], None
