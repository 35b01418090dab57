"""Attention on a device: keys and values are written to pages, and readers read them.

A program has one reader, one head and one segment of memories, and takes a run of them at a time,
which lie side by side in a page; its weights are relative to the largest so far. `combine` puts
segments together, in ascending order. For linear attention, a program has one sequence, one head
and some channels of values, and goes from token to token. All of this depends on a reader's place
alone, so it gets the same bits in any batch and any chunking.

Common arguments: `projected` `[N, 3·R]`, queries, keys and values of the new rows, each head by
head; `keys` and `values`, pools `[n_pages, H, page_size, K]`; `partials` `[n_segments, N, R]` and
`weights` `[n_segments, N, H, 2]`, sums of values, the base-2 logarithm of the largest weight, which
they are relative to, and the sum of weights. The others are as for
`causalrn.model.ops.relation.gpu`.
"""

import triton
import triton.language as tl

from causalrn.model.ops.attention import LEAST
from causalrn.model.ops.gpu.tiles import VARYING, is_active

_LARGEST_RUN = 16  # memories; a page has a multiple of it
_MOST_VALUES = 16  # channels of values that a program of linear attention has
_PAIRS = 4096  # numbers of memories that a program takes at a time; with more, it spills
_SUMS = 2048  # numbers of a state that a program has; with more, they spill

_NEVER = tl.constexpr(float("-inf"))
_LEAST = tl.constexpr(LEAST)


def run_of(channels: int) -> int:
    """How many memories `attend` takes at a time.

    Args:
        channels: of a head, up to the next power of two.
    """
    return min(_LARGEST_RUN, max(1, _PAIRS // channels))


def values_of(channels: int) -> int:
    """How many channels of values a program of `attend_linearly` has; see `run_of`."""
    return min(_MOST_VALUES, max(1, _SUMS // channels))


@triton.jit(do_not_specialize=VARYING)
def remember(
    projected, owners, places, block_tables, keys, values, n_pages_each, n_heads, page_size,
    n_channels, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Write the key and the value of each row to its page; one program for a row and a head."""
    row, head = tl.program_id(0), tl.program_id(1)
    channel = tl.arange(0, CHANNELS)
    is_channel = channel < n_channels
    place, width = tl.load(places + row), n_heads * n_channels
    page = tl.load(block_tables + tl.load(owners + row) * n_pages_each + place // page_size)
    own = projected + row.to(tl.int64) * 3 * width + head * n_channels + channel
    entry = (page.to(tl.int64) * n_heads + head) * page_size + place % page_size
    to = entry * n_channels + channel
    tl.store(keys + to, tl.load(own + width, is_channel, 0.0), is_channel)
    tl.store(values + to, tl.load(own + 2 * width, is_channel, 0.0), is_channel)


@triton.jit(do_not_specialize=VARYING)
def attend(
    projected, owners, places, phases, block_tables, keys, values, partials, weights, n_rows,
    n_pages_each, n_heads, page_size, n_channels, mask, scale, CHANNELS: tl.constexpr,
    RUN: tl.constexpr, SEGMENT: tl.constexpr,
):  # fmt: skip
    """Add up the values of a segment.

    Args:
        scale: of a dot product, to the base-2 logarithm of its weight.
    """
    row, head = tl.program_id(0), tl.program_id(1)
    begin = tl.program_id(2) * SEGMENT
    place = tl.load(places + row)
    if (begin > place) | ~is_active(tl.load(phases + row), mask):
        return
    channel, number = tl.arange(0, CHANNELS), tl.arange(0, RUN)
    is_channel = channel < n_channels
    at = row.to(tl.int64) * 3 * n_heads * n_channels + head * n_channels + channel
    query = tl.load(projected + at, is_channel, 0.0)[None, :]
    inside = number[:, None] * n_channels + channel[None, :]
    best, weight = tl.cast(_NEVER, tl.float32), tl.cast(0.0, tl.float32)
    total = tl.zeros((CHANNELS,), tl.float32)
    table = block_tables + tl.load(owners + row) * n_pages_each
    for run in range(begin, min(begin + SEGMENT, place + 1), RUN):
        page = tl.load(table + run // page_size).to(tl.int64)
        first = ((page * n_heads + head) * page_size + run % page_size) * n_channels
        is_seen = run + number <= place
        is_there = is_seen[:, None] & is_channel[None, :]
        score = tl.sum(query * tl.load(keys + first + inside, is_there, 0.0), 1) * scale
        score = tl.where(is_seen, score, _NEVER)
        largest = tl.maximum(best, tl.max(score, 0))
        fading, each = tl.exp2(best - largest), tl.exp2(score - largest)
        held = tl.load(values + first + inside, is_there, 0.0)
        total = total * fading + tl.sum(each[:, None] * held, 0)
        weight = weight * fading + tl.sum(each, 0)
        best = largest
    at = (tl.program_id(2).to(tl.int64) * n_rows + row) * n_heads + head
    tl.store(partials + at * n_channels + channel, total, is_channel)
    tl.store(weights + 2 * at, best)
    tl.store(weights + 2 * at + 1, weight)


@triton.jit(do_not_specialize=VARYING)
def combine(
    partials, weights, places, phases, out, n_rows, n_heads, n_channels, mask,
    CHANNELS: tl.constexpr, SEGMENT: tl.constexpr,
):  # fmt: skip
    """Write the mean of what a reader sees to `out` `[N, R]`."""
    row, head = tl.program_id(0), tl.program_id(1)
    if is_active(tl.load(phases + row), mask):
        channel = tl.arange(0, CHANNELS)
        is_channel = channel < n_channels
        own = row.to(tl.int64) * n_heads + head
        n_segments = tl.load(places + row) // SEGMENT + 1
        best = tl.cast(_NEVER, tl.float32)
        for segment in range(n_segments):
            at = tl.cast(segment, tl.int64) * n_rows * n_heads + own
            best = tl.maximum(best, tl.load(weights + 2 * at))
        total, weight = tl.zeros((CHANNELS,), tl.float32), tl.cast(0.0, tl.float32)
        for segment in range(n_segments):
            at = tl.cast(segment, tl.int64) * n_rows * n_heads + own
            share = tl.exp2(tl.load(weights + 2 * at) - best)
            total += share * tl.load(partials + at * n_channels + channel, is_channel, 0.0)
            weight += share * tl.load(weights + 2 * at + 1)
        tl.store(out + own * n_channels + channel, total / weight, is_channel)


@triton.jit
def _feature(x):
    """`elu(x) + 1`."""
    return tl.where(x > 0, x + 1.0, tl.exp(x))


@triton.jit(do_not_specialize=VARYING)
def sum_keys(
    projected, starts, context_lens, slots, state_tables, sums, weights, n_pages_each, page_size,
    n_heads, n_channels, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Let the sums of keys go on with the new rows of a sequence.

    Args:
        starts, context_lens, slots, state_tables: of the batch, int32.
        sums: `[n_states, H, K, K + 1]`, of keys times values, and of keys; the latter updated in
            place, also where a page fills for which there is a row.
        weights: `[N, H]`, written: what the sums of values are divided by.
    """
    sequence, head = tl.program_id(0), tl.program_id(1)
    channel = tl.arange(0, CHANNELS)
    is_channel = channel < n_channels
    size = n_channels * (n_channels + 1)
    inside = channel * (n_channels + 1) + n_channels
    state = sums + (tl.load(slots + sequence).to(tl.int64) * n_heads + head) * size
    held = tl.load(state + inside, is_channel, 0.0)
    n_held, width = tl.load(context_lens + sequence), n_heads * n_channels
    for row in range(tl.load(starts + sequence), tl.load(starts + sequence + 1)):
        own = projected + tl.cast(row, tl.int64) * 3 * width + head * n_channels + channel
        query = tl.where(is_channel, _feature(tl.load(own, is_channel, 0.0)), 0.0)
        held += tl.where(is_channel, _feature(tl.load(own + width, is_channel, 0.0)), 0.0)
        tl.store(weights + row * n_heads + head, tl.sum(query * held, 0) + _LEAST)
        n_held += 1
        if n_held % page_size == 0:
            kept = tl.load(state_tables + sequence * n_pages_each + n_held // page_size - 1)
            if kept >= 0:
                other = sums + (kept.to(tl.int64) * n_heads + head) * size
                tl.store(other + inside, held, is_channel)
    tl.store(state + inside, held, is_channel)


@triton.jit(do_not_specialize=VARYING)
def attend_linearly(
    projected, starts, context_lens, slots, state_tables, sums, weights, out, n_pages_each,
    page_size, n_heads, n_channels, CHANNELS: tl.constexpr, VALUES: tl.constexpr,
):  # fmt: skip
    """Let the sums of keys times values go on, and write what each row reads to `out` `[N, R]`.

    Args:
        sums, weights, and those of the batch: as for `sum_keys`, which goes before.
    """
    sequence, head = tl.program_id(0), tl.program_id(1)
    channel = tl.arange(0, CHANNELS)
    value = tl.program_id(2) * VALUES + tl.arange(0, VALUES)
    is_channel, is_value = channel < n_channels, value < n_channels
    is_there = is_channel[:, None] & is_value[None, :]
    size = n_channels * (n_channels + 1)
    inside = channel[:, None] * (n_channels + 1) + value[None, :]
    state = sums + (tl.load(slots + sequence).to(tl.int64) * n_heads + head) * size
    held = tl.load(state + inside, is_there, 0.0)
    n_held, width = tl.load(context_lens + sequence), n_heads * n_channels
    for row in range(tl.load(starts + sequence), tl.load(starts + sequence + 1)):
        own = projected + tl.cast(row, tl.int64) * 3 * width + head * n_channels
        query = tl.where(is_channel, _feature(tl.load(own + channel, is_channel, 0.0)), 0.0)
        key = tl.where(is_channel, _feature(tl.load(own + width + channel, is_channel, 0.0)), 0.0)
        held += key[:, None] * tl.load(own + 2 * width + value, is_value, 0.0)[None, :]
        mean = tl.sum(query[:, None] * held, 0) / tl.load(weights + row * n_heads + head)
        to = out + tl.cast(row, tl.int64) * width + head * n_channels
        tl.store(to + value, mean, is_value)
        n_held += 1
        if n_held % page_size == 0:
            kept = tl.load(state_tables + sequence * n_pages_each + n_held // page_size - 1)
            if kept >= 0:
                other = sums + (kept.to(tl.int64) * n_heads + head) * size
                tl.store(other + inside, held, is_there)
    tl.store(state + inside, held, is_there)
