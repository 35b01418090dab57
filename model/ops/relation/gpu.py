"""The normalized relation on a device: memories are written to pages, and readers read them.

A program has up to `READERS` readers of one sequence, one head and one segment of `SEGMENT`
memories, counted from the start of the sequence. It adds up a run of memories at a time, which lie
side by side in a page; `combine` puts the segments together, in ascending order. All of this
depends on the place of a reader alone, so a reader gets the same bits in any batch and chunking.
"""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from model.ops.gpu.tiles import is_active

READERS, SEGMENT = 4, 512

_LARGEST_RUN = 16  # a page has a multiple of it
_PER_THREAD = 32  # numbers of a tile; with 64, what a pair needs no longer fits into registers

_LOG2E = tl.constexpr(1.4426950408889634)
_MAX_MEAN = tl.constexpr(4.0)  # as on the CPU


def run_of(channels: int, per_thread: int = _PER_THREAD) -> dict[str, int]:
    """How many memories `relate` adds up at a time, and with how many warps.

    Args:
        channels: of a head, up to the next power of two.
        per_thread: numbers of a tile that a thread has.
    """
    warps = 4 if channels <= 128 else 8
    run = warps * 32 * per_thread // (READERS * channels)
    return {"RUN": max(1, min(_LARGEST_RUN, run)), "num_warps": warps}


@triton.jit
def dwarfs(mean, variance):
    """Whether the squared mean of pairs is so large that float32 cannot tell their variance."""
    return ~(mean * mean <= variance * _MAX_MEAN)


@triton.jit
def centre(own, other, is_channel, n_channels):
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
def append(
    memories, owners, places, block_tables, pool, n_pages_each, n_heads, page_size, n_channels,
    CHANNELS: tl.constexpr,
):  # fmt: skip
    """Write the memory of each row `[N, H·K]` to its page; one program for a row and a head."""
    row, head = tl.program_id(0), tl.program_id(1)
    channel = tl.arange(0, CHANNELS)
    is_channel = channel < n_channels
    place = tl.load(places + row)
    page = tl.load(block_tables + tl.load(owners + row) * n_pages_each + place // page_size)
    own = tl.load(memories + (row * n_heads + head) * n_channels + channel, is_channel, 0.0)
    entry = (page.to(tl.int64) * n_heads + head) * page_size + place % page_size
    tl.store(pool + entry * n_channels + channel, own, is_channel)


@triton.jit
def relate(
    readers, tiles, phases, block_tables, pool, partials, n_rows, n_pages_each, n_heads, page_size,
    n_channels, mask, eps, CHANNELS: tl.constexpr, READERS: tl.constexpr, RUN: tl.constexpr,
    SEGMENT: tl.constexpr,
):  # fmt: skip
    """Add up `exp(norm(reader + memory))` over the memories of a segment.

    Args:
        readers: `[N, H·K]`.
        tiles: `[n_tiles, 4]` int32, of each its sequence, first row, number of rows, and the place
            of the first one.
        phases, mask: of the rows, and which of them are active; tiles without any are left out.
        block_tables: `[S, n_pages_each]` int32.
        pool: `[n_pages, H, page_size, K]`, float32 or bfloat16.
        partials: `[n_segments, N, H·K]` float32, written.
    """
    tile, head = tiles + 4 * tl.program_id(0), tl.program_id(1)
    begin = tl.program_id(2) * SEGMENT
    sequence, first_row = tl.load(tile), tl.load(tile + 1)
    n_readers, first_place = tl.load(tile + 2), tl.load(tile + 3)
    n_memories = first_place + n_readers
    number = tl.arange(0, READERS)
    phase = tl.load(phases + first_row + number, number < n_readers, 0)
    n_active = tl.sum(tl.where((number < n_readers) & is_active(phase, mask), 1, 0), 0)
    if (begin >= n_memories) | (n_active == 0):
        return
    channel = tl.arange(0, CHANNELS)
    is_channel = (channel < n_channels)[None, None, :]
    place = first_place + number
    at = ((first_row + number) * n_heads + head)[:, None] * n_channels + channel[None, :]
    is_there = (number < n_readers)[:, None] & (channel < n_channels)[None, :]
    own = tl.load(readers + at, is_there, 0.0)[:, None, :]
    total = tl.zeros((READERS, CHANNELS), tl.float32)
    table = block_tables + sequence * n_pages_each
    end = min(begin + SEGMENT, n_memories)
    for run in range(begin, end, RUN):
        page = tl.load(table + run // page_size).to(tl.int64)
        entry = (page * n_heads + head) * page_size + run % page_size + tl.arange(0, RUN)
        memory = run + tl.arange(0, RUN)
        is_memory = (memory < n_memories)[:, None] & (channel < n_channels)[None, :]
        held = tl.load(pool + entry[:, None] * n_channels + channel[None, :], is_memory, 0.0)
        held = held.to(tl.float32)[None, :, :]
        centred, variance = centre(own, held, is_channel, n_channels)
        scale = 1.0 / (tl.sqrt(variance) + eps) * _LOG2E
        is_seen = (memory[None, :] <= place[:, None])[:, :, None]
        weights = tl.where(is_seen, tl.exp2(centred * scale), 0.0)
        total += tl.sum(weights, 1)
    at = tl.program_id(2).to(tl.int64) * n_rows * n_heads * n_channels + at
    tl.store(partials + at, total, is_there)


@triton.jit
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
    device: Any, pool: Tensor, page_size: int, eps: float, a: Tensor, b: Tensor, out: Tensor
) -> None:
    """Write the memories of the new rows of a step to their pages, and let their readers read.

    Args:
        device: a `model.backends.gpu_scratch.DeviceScratch` with the batch of the step.
        pool: `[n_pages, H, page_size, K]`, written.
        page_size, eps: of the pool, and of the relation.
        a, b: readers and memories, `[N, H·K]`.
        out: `[N, H·K]`, written for rows that are active.
    """
    batch, (heads, k) = device.batch, (pool.shape[1], pool.shape[3])
    n, n_pages, channels = batch.n_rows, batch.block_tables.shape[1], triton.next_power_of_2(k)
    append[(n, heads)](
        b, batch.owners, batch.places, batch.block_tables, pool, n_pages, heads, page_size, k,
        CHANNELS=channels,
    )  # fmt: skip
    n_segments = triton.cdiv(batch.longest, SEGMENT)
    partials = device.room("partials", n_segments, n, heads * k)
    relate[(len(batch.tiles), heads, n_segments)](
        a, batch.tiles, batch.phases, batch.block_tables, pool, partials, n, n_pages, heads,
        page_size, k, device.mask, eps, CHANNELS=channels, READERS=READERS, SEGMENT=SEGMENT,
        **run_of(channels),
    )  # fmt: skip
    combine[(n, heads)](
        partials, batch.places, batch.phases, out, n, heads, k, device.mask, CHANNELS=channels,
        SEGMENT=SEGMENT,
    )  # fmt: skip
