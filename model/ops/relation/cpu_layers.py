"""The mixers of both relations on the CPU: one compiled call for the new tokens of a whole batch.

Whenever a sequence fills a page for which it has a row, what it keeps besides the pool is copied to
that row. Results have the same bits for a sequence in any batch, any chunking and any pages; see
`lanes.py` and `linear.py`.

Common arguments: `starts` `[S + 1]`, `context_lens` `[S]` and `slots` `[S]`, int64, `block_tables`
and `state_tables` `[S, M]` int32, as in `model.state.RaggedBatch`; `page_size` in tokens; `eps`,
added to standard deviations. Arrays of rows are float32 and may be longer than the batch.
"""

from typing import Any

import numpy as np

from model.ops.cpu import jit
from model.ops.cpu.linear import add_product
from model.ops.norm.cpu import normalize
from model.ops.relation.cpu import accumulate, append, combine, relate
from model.ops.token_shift.cpu import extend_shift
from model.state import LayerState
from model.step import Step

_TILE = 8  # rows that one thread takes at a time
_PARTS = 4  # of the work on the pools, for each thread


def normalized_relation(mixer: Any, step: Step, layer: LayerState) -> None:
    """The operation that a `model.mixers.normalized.NormalizedRelation` asks for."""
    batch, space, r = step.batch, step.scratch, mixer.d_relation
    n_rows = len(batch.token_ids)
    normalized_layer(
        step.x, step.active, batch.starts, batch.context_lens, batch.slots, batch.block_tables,
        batch.state_tables, step.state.page_size, _PARTS * jit.num_threads(), mixer.norm_eps,
        mixer.reaches(step), mixer.shift_channels[0],
        *mixer.views(), layer.state_arrays.get("tail", space.no_tails),
        layer.pool_arrays["pool"],
        *space.rows("inputs", 3, mixer.d_model), *space.rows("related", 3, r), space.segments(r),
        work=r * (step.n_pairs + n_rows * r // 8),
    )  # fmt: skip


def separable_relation(mixer: Any, step: Step, layer: LayerState) -> None:
    """The operation that a `model.mixers.separable.SeparableRelation` asks for."""
    batch, space, r = step.batch, step.scratch, mixer.d_relation
    n_rows = len(batch.token_ids)
    separable_layer(
        step.x, step.active, batch.starts, batch.context_lens, batch.slots, batch.state_tables,
        step.state.page_size, mixer.n_head, mixer.norm_eps, mixer.reaches(step),
        mixer.shift_channels[0], *mixer.views(), layer.state_arrays.get("tail", space.no_tails),
        layer.state_arrays["sums"],
        *space.rows("inputs", 3, mixer.d_model), *space.rows("related", 3, r),
        work=r * (n_rows + n_rows * r // 8),
    )  # fmt: skip


@jit.inline
def shift(x, active, s, starts, context_lens, slots, state_tables, page_size, eps,
          reaches, channel, taps, tails, z, readers, memories):  # fmt: skip
    """Normalize the new rows of sequence s and convolve them, page by page.

    Only active rows get readers.
    """
    tail = tails[slots[s]]
    first = starts[s]
    while first < starts[s + 1]:
        held = context_lens[s] + first - starts[s]
        last = min(starts[s + 1], first + page_size - held % page_size)
        for n in range(first, last):
            normalize(x[n], eps, z[n])
        extend_shift(
            z, first, last, channel, taps, reaches, active, tail, readers, memories
        )  # fmt: skip
        held += last - first
        if held % page_size == 0:
            row = state_tables[s, held // page_size - 1]
            if row >= 0:
                tails[row] = tail
        first = last


@jit.inline
def _project(first, last, readers, memories, w_reader, b_reader, w_memory, a, b):
    """Rows of readers and memories: a = w_reader · readers + b_reader, b = w_memory · memories."""
    for n in range(first, last):
        for i in range(b_reader.shape[0]):
            a[n, i] = b_reader[i]
            b[n, i] = 0.0
    add_product(readers, first, last, w_reader, a)
    add_product(memories, first, last, w_memory, b)


@jit.inline
def active_run(first, last, active):
    """The first run of active rows from `first` on; empty, at `last`, if there is none."""
    while first < last and not active[first]:
        first += 1
    end = first
    while end < last and active[end]:
        end += 1
    return first, end


@jit.inline
def write(first, last, active, o, w_output, b_output, eps, x):
    """x += w_output · norm(o) + b_output, in active rows."""
    first, end = active_run(first, last, active)
    while first < end:
        for n in range(first, end):
            normalize(o[n], eps, o[n])
            for i in range(b_output.shape[0]):
                x[n, i] += b_output[i]
        add_product(o, first, end, w_output, x)
        first, end = active_run(end, last, active)


@jit.dealt_kernel
def normalized_layer(
    x, active, starts, context_lens, slots, block_tables, state_tables, page_size, n_parts, eps,
    reaches, channel, taps, w_reader, b_reader, w_memory, w_output, b_output,
    tails, pool, z, readers, memories, a, b, o, partials,
):  # fmt: skip
    """Add to `x` what a mixer of the normalized relation writes.

    Args:
        x: `[N, D]` residual stream, updated in place.
        active: `[N]` bool, rows that read and are added to; the others are only remembered.
        n_parts: how many parts the work on the pools is dealt into, each for one thread.
        reaches: `[N]` int64, how many tokens before its own each row sees at most.
        channel: the first one that the token shift convolves.
        taps: `[2, W, C]` of the token shift.
        w_reader, b_reader, w_memory: `[R, D]`, `[R]`, `[R, D]`.
        w_output, b_output: `[D, R]`, `[D]`.
        tails: `[n_states, W - 1, C]`, updated in place.
        pool: `[n_pages, H, page_size, K]`, written.
        z, readers, memories: `[N, D]` scratch.
        a, b, o: `[N, R]` scratch.
        partials: `[n_segments, N, R]` scratch, with enough segments for the longest pool.
    """
    n_rows = starts[slots.shape[0]]
    n_tiles = (n_rows + _TILE - 1) // _TILE
    for s in jit.prange(slots.shape[0]):
        shift(x, active, s, starts, context_lens, slots, state_tables, page_size, eps,
              reaches, channel, taps, tails, z, readers, memories)  # fmt: skip
    for tile in jit.prange(n_tiles):
        first, last = tile * _TILE, min((tile + 1) * _TILE, n_rows)
        _project(first, last, readers, memories, w_reader, b_reader, w_memory, a, b)
        s = np.searchsorted(starts, first, side="right") - 1
        for n in range(first, last):
            while n >= starts[s + 1]:
                s += 1
            append(b, n, context_lens[s] + n - starts[s], block_tables[s], pool)
    for part in jit.prange(n_parts):
        relate(
            part, n_parts, a, active, starts, context_lens, block_tables, pool, np.float32(eps),
            partials,
        )  # fmt: skip
    for tile in jit.prange(n_tiles):
        first, last = tile * _TILE, min((tile + 1) * _TILE, n_rows)
        s = np.searchsorted(starts, first, side="right") - 1
        for n in range(first, last):
            while n >= starts[s + 1]:
                s += 1
            if active[n]:
                combine(n, context_lens[s] + n - starts[s] + 1, partials, o)
        write(first, last, active, o, w_output, b_output, eps, x)


@jit.dealt_kernel
def separable_layer(
    x, active, starts, context_lens, slots, state_tables, page_size, n_heads, eps,
    reaches, channel, taps, w_reader, b_reader, w_memory, w_output, b_output,
    tails, sums, z, readers, memories, a, b, o,
):  # fmt: skip
    """Add to `x` what a mixer of the separable relation writes.

    Args:
        n_heads: number of heads H.
        sums: `[n_states, R]` float64, updated in place.
        x and the others: as for `normalized_layer`.
    """
    n_rows = starts[slots.shape[0]]
    n_tiles = (n_rows + _TILE - 1) // _TILE
    k = b_reader.shape[0] // n_heads
    for s in jit.prange(slots.shape[0]):
        shift(x, active, s, starts, context_lens, slots, state_tables, page_size, eps,
              reaches, channel, taps, tails, z, readers, memories)  # fmt: skip
    for tile in jit.prange(n_tiles):
        first, last = tile * _TILE, min((tile + 1) * _TILE, n_rows)
        _project(first, last, readers, memories, w_reader, b_reader, w_memory, a, b)
    for task in jit.prange(slots.shape[0] * n_heads):
        s, i = task // n_heads, task % n_heads * k
        own = sums[slots[s], i : i + k]
        for n in range(starts[s], starts[s + 1]):
            held = context_lens[s] + n - starts[s] + 1
            accumulate(
                a[n, i : i + k], b[n, i : i + k], np.float32(eps), own, held, o[n, i : i + k]
            )
            if held % page_size == 0:
                row = state_tables[s, held // page_size - 1]
                if row >= 0:
                    sums[row, i : i + k] = own
    for tile in jit.prange(n_tiles):
        first, last = tile * _TILE, min((tile + 1) * _TILE, n_rows)
        write(first, last, active, o, w_output, b_output, eps, x)
