"""The mixers of both relations on the CPU, for the new tokens of a whole batch.

Whenever a sequence fills a page for which it has a row, what it keeps besides the pool is copied to
that row. Results have the same bits for a sequence in any batch, any chunking and any pages; see
`lanes.py` and `linear.py`.

Common arguments: `starts`, `context_lens`, `slots`, `block_tables` and `state_tables` as in
`causalrn.model.state.RaggedBatch`; `x`, `active` and `reaches` as in `causalrn.model.step.Step`;
`page_size` in tokens; `eps`, added to standard deviations. Other arrays of rows are float32 and may
be longer than the batch.
"""

from typing import Any

import numpy as np

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.dealing import add, take, take_near, wait_for
from causalrn.model.ops.cpu.linear import add_product
from causalrn.model.ops.cpu.operations import Work, operation
from causalrn.model.ops.cpu.records import BOOL, F32, F64, I64
from causalrn.model.ops.norm.cpu import normalize, normalize_rows
from causalrn.model.ops.relation.cpu import accumulate, append, combine, new_pairs, new_tile, relate
from causalrn.model.ops.token_shift.cpu import keep_tails, shift_rows
from causalrn.model.state import DecoderState, LayerState

_TILE = 8  # rows that one thread takes at a time
_PARTS = 4  # of the work on the pools, for each thread


OF_MIXERS = {
    "eps": F64,
    "page_size": I64,
    "within_turn": BOOL,
    "boundless": I64[::1],
    "channel": I64,
    "taps": F32[:, :, ::1],
    "tails": F32[:, :, ::1],
    "z": F32[:, ::1],
    "readers": F32[:, ::1],
    "memories": F32[:, ::1],
}
"""Parameters that all mixers have:

- `within_turn`, whether rows see no more tokens before their own than their reaches say; else
  `boundless` `[N]` says it;
- `channel`, the first one that the token shift convolves, and its `taps` `[2, W, C]`;
- `tails` `[n_states, W - 1, C]`, updated in place;
- `z`, `readers` and `memories` `[N, D]`, which are scratch.
"""

_OF_RELATIONS = OF_MIXERS | {
    "w_reader": F32[:, ::1],
    "b_reader": F32[::1],
    "w_memory": F32[:, ::1],
    "w_output": F32[:, ::1],
    "b_output": F32[::1],
    "a": F32[:, ::1],
    "b": F32[:, ::1],
    "o": F32[:, ::1],
}


def values_of_mixer(mixer: Any, layer: LayerState, state: DecoderState) -> dict[str, Any]:
    """What belongs to `OF_MIXERS`, but for the taps."""
    space = state.scratch
    z, readers, memories = space.rows("inputs", 3, mixer.d_model)
    return {
        "eps": mixer.norm_eps,
        "page_size": state.page_size,
        "within_turn": mixer.within_turn,
        "boundless": space.boundless,
        "channel": mixer.shift_channels[0],
        "tails": layer.state_arrays.get("tail", space.no_tails),
        "z": z,
        "readers": readers,
        "memories": memories,
    }


def _values_of_relation(mixer: Any, layer: LayerState, state: DecoderState) -> dict[str, Any]:
    names = "taps", "w_reader", "b_reader", "w_memory", "w_output", "b_output"
    weights = dict(zip(names, mixer.views(), strict=True))
    related = state.scratch.rows("related", 3, mixer.d_relation)
    scratch = dict(zip("abo", related, strict=True))
    return values_of_mixer(mixer, layer, state) | weights | scratch


def normalized_work(mixer: Any, layer: LayerState, state: DecoderState) -> Work:
    """What a `causalrn.model.mixers.normalized.NormalizedRelation` asks for."""
    r = mixer.d_relation
    values = _values_of_relation(mixer, layer, state) | {
        "pool": layer.pool_arrays["pool"],
        "totals": layer.pool_arrays["totals"],
        "partials": state.scratch.segments(r),
    }
    return Work(values, per_row=r * r // 8, per_pair=r)


def separable_work(mixer: Any, layer: LayerState, state: DecoderState) -> Work:
    """What a `causalrn.model.mixers.separable.SeparableRelation` asks for."""
    r = mixer.d_relation
    values = _values_of_relation(mixer, layer, state) | {
        "n_heads": mixer.n_head,
        "sums": layer.state_arrays["sums"],
    }
    return Work(values, per_row=r + r * r // 8)


@jit.inline
def shift(first, last, active, starts, slots, reaches, channel, taps, tails, z, readers, memories):
    """Convolve normalized rows `first` to `last - 1`. Only active rows get readers."""
    s = np.searchsorted(starts, first, side="right") - 1
    while first < last:
        end = min(last, starts[s + 1])
        shift_rows(
            z, first, end, starts[s], channel, taps, reaches, active, tails[slots[s]], readers,
            memories,
        )  # fmt: skip
        first, s = end, s + 1


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


@operation(
    ["pool"],
    **_OF_RELATIONS,
    pool=F32[:, :, :, ::1],
    totals=F64[:, :, :, ::1],
    partials=F32[:, :, ::1],
)  # fmt: skip
def normalized_layer(
    x, active, starts, context_lens, slots, block_tables, state_tables, n_threads, eps, page_size,
    reaches, within_turn, boundless, channel, taps, tails, z, readers, memories, w_reader, b_reader,
    w_memory, w_output, b_output, a, b, o, pool, totals, partials,
):  # fmt: skip
    """Add to `x` what a mixer of the normalized relation writes, in active rows.

    Args:
        w_reader, b_reader, w_memory: `[R, D]`, `[R]`, `[R, D]`.
        w_output, b_output: `[D, R]`, `[D]`.
        a, b, o: `[N, R]` scratch.
        pool: `[n_pages, H, page_size, K]`, float32 or bfloat16, written.
        totals: `[n_pages, H, page_size, 1]` float64, written: sums of the memories' channels.
        partials: `[n_segments, N, R]` scratch, with enough segments for the longest pool.
        The others are those of the step and of `OF_MIXERS`.
    """
    n_rows = starts[slots.shape[0]]
    n_tiles = (n_rows + _TILE - 1) // _TILE
    limits = reaches if within_turn else boundless
    n_parts = _PARTS * n_threads
    taken, done = np.zeros(2, np.int64), np.zeros(3, np.int64)
    near = np.zeros((3, n_threads), np.int64)
    for thread in jit.prange(n_threads):
        normalize_rows(near, thread, n_threads, done, x, n_rows, eps, z)
        tile = take_near(near[1], thread, n_threads, n_tiles)
        while tile < n_tiles:
            first, last = tile * _TILE, min((tile + 1) * _TILE, n_rows)
            shift(first, last, active, starts, slots, limits, channel, taps, tails, z, readers,
                  memories)  # fmt: skip
            _project(first, last, readers, memories, w_reader, b_reader, w_memory, a, b)
            s = np.searchsorted(starts, first, side="right") - 1
            for n in range(first, last):
                while n >= starts[s + 1]:
                    s += 1
                append(b, n, context_lens[s] + n - starts[s], block_tables[s], pool, totals)
            add(done, 1, 1)
            tile = take_near(near[1], thread, n_threads, n_tiles)
        wait_for(done, 1, n_tiles)
        own, reader_totals = new_tile(pool.shape[3])
        pairs, means, dwarfed = new_pairs()
        part = take(taken, 0)
        while part < n_parts:
            relate(
                part, n_parts, a, active, starts, context_lens, block_tables, pool, totals,
                np.float32(eps), own, reader_totals, pairs, means, dwarfed, partials,
            )  # fmt: skip
            add(done, 2, 1)
            part = take(taken, 0)
        wait_for(done, 2, n_parts)
        tile = take_near(near[2], thread, n_threads, n_tiles)
        while tile < n_tiles:
            first, last = tile * _TILE, min((tile + 1) * _TILE, n_rows)
            s = np.searchsorted(starts, first, side="right") - 1
            for n in range(first, last):
                while n >= starts[s + 1]:
                    s += 1
                if active[n]:
                    combine(n, context_lens[s] + n - starts[s] + 1, partials, o)
            write(first, last, active, o, w_output, b_output, eps, x)
            tile = take_near(near[2], thread, n_threads, n_tiles)
        keep_tails(
            taken, starts, context_lens, slots, state_tables, page_size, channel, tails, z
        )  # fmt: skip


@operation(**_OF_RELATIONS, n_heads=I64, sums=F64[:, ::1])
def separable_layer(
    x, active, starts, context_lens, slots, state_tables, n_threads, eps, page_size, reaches,
    within_turn, boundless, channel, taps, tails, z, readers, memories, w_reader, b_reader,
    w_memory, w_output, b_output, a, b, o, n_heads, sums,
):  # fmt: skip
    """Add to `x` what a mixer of the separable relation writes, in active rows.

    Args:
        n_heads: number of heads H.
        sums: `[n_states, R]` float64, updated in place.
        The others are those of the step and as for `normalized_layer`.
    """
    n_rows = starts[slots.shape[0]]
    n_tiles = (n_rows + _TILE - 1) // _TILE
    n_tasks = slots.shape[0] * n_heads
    k = b_reader.shape[0] // n_heads
    limits = reaches if within_turn else boundless
    taken, done = np.zeros(2, np.int64), np.zeros(3, np.int64)
    near = np.zeros((3, n_threads), np.int64)
    for thread in jit.prange(n_threads):
        normalize_rows(near, thread, n_threads, done, x, n_rows, eps, z)
        tile = take_near(near[1], thread, n_threads, n_tiles)
        while tile < n_tiles:
            first, last = tile * _TILE, min((tile + 1) * _TILE, n_rows)
            shift(first, last, active, starts, slots, limits, channel, taps, tails, z, readers,
                  memories)  # fmt: skip
            _project(first, last, readers, memories, w_reader, b_reader, w_memory, a, b)
            add(done, 1, 1)
            tile = take_near(near[1], thread, n_threads, n_tiles)
        wait_for(done, 1, n_tiles)
        task = take(taken, 0)
        while task < n_tasks:
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
            add(done, 2, 1)
            task = take(taken, 0)
        wait_for(done, 2, n_tasks)
        tile = take_near(near[2], thread, n_threads, n_tiles)
        while tile < n_tiles:
            first, last = tile * _TILE, min((tile + 1) * _TILE, n_rows)
            write(first, last, active, o, w_output, b_output, eps, x)
            tile = take_near(near[2], thread, n_threads, n_tiles)
        keep_tails(
            taken, starts, context_lens, slots, state_tables, page_size, channel, tails, z
        )  # fmt: skip
