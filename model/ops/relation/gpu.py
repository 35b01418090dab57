"""The normalized relation on a device: memories are written to pages, and readers read them.

A program has one reader, one head and one segment of `SEGMENT` memories, counted from the start of
the sequence. It takes a run of memories at a time, which lie side by side in a page, and adds their
exponentials up place by place; `combine` puts the segments together, in ascending order. All of
this depends on the place of a reader alone, so a reader gets the same bits in any batch and
chunking.

What limits it is the special functions: one exponential a pair and channel. So the mean of a pair
comes from the sums of reader and memory, its variance from one sum of squares, and an exponential
takes an addition, a multiply-add and an addition besides. Pairs that this is not exact enough for
are done again with what rounding took from them, on a path that few runs take.
"""

from collections.abc import Mapping
from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from causalrn.model.ops.gpu.tiles import (
    ALL_REGISTERS,
    VARYING,
    as_stored,
    is_active,
    rounded,
    store_memory,
    widened,
)

SEGMENT = 512

_RUN = 16  # a page has a multiple of it
_NUMBERS = 1024  # of a tile, for each warp: 32 for a thread

_LOG2E = tl.constexpr(1.4426950408889634)
_NEVER = tl.constexpr(float("-inf"))
_MAX_MEAN = tl.constexpr(4.0)  # as on the CPU


def run_of(channels: int) -> dict[str, int]:
    """How many memories `relate` takes at a time, with as few warps as can hold their pairs.

    A single warp waits for no other one.

    Args:
        channels: of a head, up to the next power of two.
    """
    warps = 1 if channels <= 512 else 2
    run = min(_RUN, warps * _NUMBERS // channels)
    return {"RUN": run, "num_warps": warps} | ALL_REGISTERS


@triton.jit
def dwarfs(mean, variance):
    """Whether the squared mean of pairs is so large that float32 cannot tell their variance."""
    return ~(mean * mean <= variance * _MAX_MEAN)


@triton.jit
def sum_of(rows):
    """The sums of rows, as two float32 that add up to each: where pairs cancel, their sums do."""
    total = tl.sum(rows.to(tl.float64), -1)
    high = total.to(tl.float32)
    return high, (total - high.to(tl.float64)).to(tl.float32)


@triton.jit(do_not_specialize=VARYING)
def append(
    memories, owners, places, block_tables, pool, totals, n_pages_each, n_heads, page_size,
    n_channels, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Write the memory of each row `[N, H·K]` to its page; one program for a row and a head.

    Args:
        totals: `[n_pages, H, page_size, 2]` float32, written: the sums of memories, see `sum_of`.
        The others are as for `relate`.
    """
    row, head = tl.program_id(0), tl.program_id(1)
    channel = tl.arange(0, CHANNELS)
    is_channel = channel < n_channels
    place = tl.load(places + row)
    page = tl.load(block_tables + tl.load(owners + row) * n_pages_each + place // page_size)
    own = tl.load(memories + (row * n_heads + head) * n_channels + channel, is_channel, 0.0)
    own = rounded(own, pool)
    entry = (page.to(tl.int64) * n_heads + head) * page_size + place % page_size
    store_memory(pool + entry * n_channels + channel, own, is_channel)
    high, low = sum_of(own)
    tl.store(totals + 2 * entry, high)
    tl.store(totals + 2 * entry + 1, low)


@triton.jit
def _add_run(
    total, own, own_high, own_low, held_at, totals_at, is_seen, is_channel, n_channels, inverse,
    eps, MASKED: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """Add the exponentials of a run of memories to `total` `[RUN, CHANNELS]`.

    Args:
        own, own_high, own_low: the reader `[1, CHANNELS]`, and its sum (`sum_of`).
        held_at, totals_at: pointers to memories and to their sums, `[RUN, CHANNELS]` and `[RUN]`.
        is_seen: `[RUN]`, which of the memories there are, if `MASKED`.
        is_channel: `[1, CHANNELS]`, which of the channels there are, unless they all are (`WHOLE`).
        n_channels, inverse: K and 1 / K.
    """
    if MASKED:
        held = widened(tl.load(held_at, is_seen[:, None] & is_channel, 0))
        high, low = tl.load(totals_at, is_seen, 0.0), tl.load(totals_at + 1, is_seen, 0.0)
    else:
        held = widened(tl.load(held_at) if WHOLE else tl.load(held_at, is_channel, 0))
        high, low = tl.load(totals_at), tl.load(totals_at + 1)
    pair = own + held
    mean = ((own_high + high) + (own_low + low)) * inverse
    variance = tl.sum(pair * pair, 1) * inverse - mean * mean
    root = tl.rsqrt(variance)
    # 1 / (deviation + eps) to the last bit, as eps is at most a 4096th of the deviation.
    scale = root * (_LOG2E - eps * _LOG2E * root)
    shift = -mean * scale
    is_hard = dwarfs(mean, variance) | (variance <= 16777216.0 * eps * eps)
    if MASKED:
        is_hard = is_hard & is_seen
    if tl.max(tl.where(is_hard, 1, 0), 0) > 0:
        # What the sum of two floats loses to rounding is itself a float (Knuth's two-sum).
        back = pair - own
        lost = (own - (pair - back)) + (held - back)
        again = tl.where(is_channel, (pair - mean[:, None]) + lost, 0.0)
        again -= (tl.sum(again, 1) / n_channels)[:, None]
        again = tl.where(is_channel, again, 0.0)
        deviation = tl.sqrt(tl.sum(again * again, 1) / n_channels)
        pair = tl.where(is_hard[:, None], again, pair)
        scale = tl.where(is_hard, 1.0 / (deviation + eps) * _LOG2E, scale)
        shift = tl.where(is_hard, 0.0, shift)
    if MASKED:
        scale, shift = tl.where(is_seen, scale, 0.0), tl.where(is_seen, shift, _NEVER)
    return total + tl.exp2(pair * scale[:, None] + shift[:, None])


@triton.jit(do_not_specialize=VARYING)
def relate(
    readers, owners, places, phases, block_tables, pool, totals, partials, n_rows, n_pages_each,
    n_heads, page_size, n_channels, mask, eps, CHANNELS: tl.constexpr, WHOLE: tl.constexpr,
    RUN: tl.constexpr, SEGMENT: tl.constexpr,
):  # fmt: skip
    """Add up `exp(norm(reader + memory))` over the memories of a segment.

    Args:
        readers: `[N, H·K]`.
        owners, places: `[N]` int32, of each reader its sequence, and its place there.
        phases, mask: of the rows, and which of them are active; the others are left out.
        block_tables: `[S, n_pages_each]` int32.
        pool: `[n_pages, H, page_size, K]`, float32 or bfloat16.
        totals: as `append` writes them.
        partials: `[n_segments, N, H·K]` float32, written.
        WHOLE: whether K is CHANNELS, so that no channel is masked.
    """
    row, head = tl.program_id(0), tl.program_id(1)
    begin = tl.program_id(2) * SEGMENT
    place = tl.load(places + row)
    if (begin > place) | ~is_active(tl.load(phases + row), mask):
        return
    channel, number = tl.arange(0, CHANNELS), tl.arange(0, RUN)
    is_channel = (channel < n_channels)[None, :]
    at = (row.to(tl.int64) * n_heads + head) * n_channels + channel
    reader = tl.load(readers + at, channel < n_channels, 0.0)
    own_high, own_low = sum_of(reader)
    own, inverse = reader[None, :], 1.0 / n_channels
    inside = number[:, None] * n_channels + channel[None, :]
    total = tl.zeros((RUN, CHANNELS), tl.float32)
    table = block_tables + tl.load(owners + row) * n_pages_each
    end = min(begin + SEGMENT, place + 1)
    last = end - (end - begin) % RUN  # where a run is no longer whole
    run = begin
    while run < last:
        # As many whole runs as there are up to the end of the page.
        page = tl.load(table + run // page_size).to(tl.int64)
        first = (page * n_heads + head) * page_size + run % page_size
        held_at = pool + first * n_channels + inside
        totals_at = totals + 2 * first + 2 * number
        stop = min(last, run - run % page_size + page_size)
        for _ in range(run, stop, RUN):
            total = _add_run(
                total, own, own_high, own_low, held_at, totals_at, is_channel, is_channel,
                n_channels, inverse, eps, False, WHOLE,
            )  # fmt: skip
            held_at += RUN * n_channels
            totals_at += 2 * RUN
        run = stop
    if last < end:
        page = tl.load(table + last // page_size).to(tl.int64)
        first = (page * n_heads + head) * page_size + last % page_size
        total = _add_run(
            total, own, own_high, own_low, pool + first * n_channels + inside,
            totals + 2 * first + 2 * number, number < end - last, is_channel, n_channels, inverse,
            eps, True, WHOLE,
        )  # fmt: skip
    at += tl.program_id(2).to(tl.int64) * n_rows * n_heads * n_channels
    tl.store(partials + at, tl.sum(total, 0), channel < n_channels)


@triton.jit(do_not_specialize=VARYING)
def combine(
    partials, places, phases, out, n_rows, n_heads, n_channels, mask, CHANNELS: tl.constexpr,
    SEGMENT: tl.constexpr,
):  # fmt: skip
    """Put the segments of each row and head together, into its mean over what it sees."""
    row, head = tl.program_id(0), tl.program_id(1)
    if is_active(tl.load(phases + row), mask):
        channel = tl.arange(0, CHANNELS)
        is_channel = channel < n_channels
        n_seen = tl.load(places + row) + 1
        at = (row * n_heads + head) * n_channels + channel
        total = tl.zeros((CHANNELS,), tl.float32)
        for segment in range(tl.cdiv(n_seen, SEGMENT)):
            skipped = tl.cast(segment, tl.int64) * n_rows * n_heads * n_channels
            total += tl.load(partials + skipped + at, is_channel, 0.0)
        tl.store(out + at, total / n_seen, is_channel)


def relate_all(
    device: Any,
    memory: Mapping[str, Tensor],
    page_size: int,
    eps: float,
    a: Tensor,
    b: Tensor,
    out: Tensor,
) -> None:
    """Write the memories of the new rows of a step to their pages, and let their readers read.

    Args:
        device: a `causalrn.model.backends.gpu_scratch.DeviceScratch` with the batch of the step.
        memory: "pool" `[n_pages, H, page_size, K]`, float32 or bfloat16, and "totals"
            `[n_pages, H, page_size, 2]`, written.
        page_size, eps: of the pool, and of the relation.
        a, b: readers and memories, `[N, H·K]`.
        out: `[N, H·K]`, written for rows that are active.
    """
    batch, pool, totals = device.batch, as_stored(memory["pool"]), memory["totals"]
    heads, k = pool.shape[1], pool.shape[3]
    n, n_pages, channels = batch.n_rows, batch.block_tables.shape[1], triton.next_power_of_2(k)
    append[(n, heads)](
        b, batch.owners, batch.places, batch.block_tables, pool, totals, n_pages, heads, page_size,
        k, CHANNELS=channels,
    )  # fmt: skip
    n_segments = triton.cdiv(batch.longest, SEGMENT)
    partials = device.room("partials", n_segments, n, heads * k)
    relate[(n, heads, n_segments)](
        a, batch.owners, batch.places, batch.phases, batch.block_tables, pool, totals, partials, n,
        n_pages, heads, page_size, k, device.mask, eps, CHANNELS=channels, WHOLE=k == channels,
        SEGMENT=SEGMENT, **run_of(channels),
    )  # fmt: skip
    combine[(n, heads)](
        partials, batch.places, batch.phases, out, n, heads, k, device.mask, CHANNELS=channels,
        SEGMENT=SEGMENT,
    )  # fmt: skip
