"""The mixers of attention on the CPU, for the new tokens of a whole batch.

Common arguments: `eps`, added to standard deviations; `w_in`, `b_in` `[3·R, D]` and `[3·R]`, of
queries, keys and values; `w_output`, `b_output` `[D, R]` and `[D]`; `z` `[N, D]`, `projected` `[N,
3·R]` and `o` `[N, R]`, which are scratch and may be longer than the batch. The others are those of
the step, see `causalrn.model.ops.relation.cpu_layers`.
"""

from typing import Any

import numpy as np

from causalrn.model.ops.attention.cpu import accumulate, combine, read_segment, remember
from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.dealing import add, take, wait_for
from causalrn.model.ops.cpu.linear import add_product
from causalrn.model.ops.cpu.operations import Work, operation
from causalrn.model.ops.cpu.records import F32, F64, I64
from causalrn.model.ops.norm.cpu import normalize
from causalrn.model.ops.relation.cpu import SEGMENT
from causalrn.model.ops.relation.cpu_layers import active_run
from causalrn.model.state import DecoderState, LayerState

TILE = 8  # rows that one thread takes at a time

OF_MIXERS = {
    "eps": F64,
    "w_in": F32[:, ::1],
    "b_in": F32[::1],
    "w_output": F32[:, ::1],
    "b_output": F32[::1],
    "z": F32[:, ::1],
    "projected": F32[:, ::1],
    "o": F32[:, ::1],
}
"""Parameters that all mixers have; see above."""


def values_of_mixer(mixer: Any, state: DecoderState) -> dict[str, Any]:
    """What belongs to `OF_MIXERS`."""
    names = "w_in", "b_in", "w_output", "b_output"
    space = state.scratch
    return dict(zip(names, mixer.views(), strict=True)) | {
        "eps": mixer.norm_eps,
        "z": space.rows("inputs", 3, mixer.d_model)[0],
        "projected": space.rows("projected", 1, 3 * mixer.d_attention)[0],
        "o": space.rows("attended", 1, mixer.d_attention)[0],
    }


def attention_work(mixer: Any, layer: LayerState, state: DecoderState) -> Work:
    """What a `causalrn.model.mixers.attention.Attention` asks for."""
    r = mixer.d_attention
    values = values_of_mixer(mixer, state) | {
        "keys": layer.pool_arrays["keys"],
        "values": layer.pool_arrays["values"],
        "partials": state.scratch.segments(r + 2 * mixer.n_head),
    }
    return Work(values, per_row=r * r // 4, per_pair=r)


def linear_attention_work(mixer: Any, layer: LayerState, state: DecoderState) -> Work:
    """What a `causalrn.model.mixers.attention.LinearAttention` asks for."""
    r = mixer.d_attention
    values = values_of_mixer(mixer, state) | {
        "page_size": state.page_size,
        "sums": layer.state_arrays["sums"],
    }
    return Work(values, per_row=r * r // 2)


@jit.inline
def project(first, last, x, eps, w_in, b_in, z, projected):
    """Queries, keys and values of rows `first` to `last - 1`."""
    for n in range(first, last):
        normalize(x[n], eps, z[n])
        for i in range(b_in.shape[0]):
            projected[n, i] = b_in[i]
    add_product(z, first, last, w_in, projected)


@jit.inline
def write_as_it_is(first, last, active, o, w_output, b_output, x):
    """x += w_output · o + b_output, in active rows."""
    first, end = active_run(first, last, active)
    while first < end:
        for n in range(first, end):
            for i in range(b_output.shape[0]):
                x[n, i] += b_output[i]
        add_product(o, first, end, w_output, x)
        first, end = active_run(end, last, active)


@operation(
    **OF_MIXERS,
    keys=F32[:, :, :, ::1],
    values=F32[:, :, :, ::1],
    partials=F32[:, :, ::1],
)
def attention_layer(
    x, active, starts, context_lens, slots, block_tables, n_threads, eps, w_in, b_in, w_output,
    b_output, z, projected, o, keys, values, partials,
):  # fmt: skip
    """Add to `x` what a mixer of softmax attention writes, in active rows.

    Args:
        keys, values: pools `[n_pages, H, page_size, K]`, written.
        partials: `[n_segments, N, R + 2·H]` scratch, with enough segments for the longest pool.
        The others are those of the step and common ones.
    """
    n_rows, n_heads = starts[slots.shape[0]], keys.shape[1]
    n_tiles = (n_rows + TILE - 1) // TILE
    n_pieces = 0
    for s in range(slots.shape[0]):
        for n in range(starts[s], starts[s + 1]):
            n_pieces += n_heads * ((context_lens[s] + n - starts[s]) // SEGMENT + 1)
    taken, done = np.zeros(3, np.int64), np.zeros(2, np.int64)
    for _ in jit.prange(n_threads):
        tile = take(taken, 0)
        while tile < n_tiles:
            first, last = tile * TILE, min((tile + 1) * TILE, n_rows)
            project(first, last, x, eps, w_in, b_in, z, projected)
            s = np.searchsorted(starts, first, side="right") - 1
            for n in range(first, last):
                while n >= starts[s + 1]:
                    s += 1
                place = context_lens[s] + n - starts[s]
                remember(projected, n, place, block_tables[s], keys, values)
            add(done, 0, 1)
            tile = take(taken, 0)
        wait_for(done, 0, n_tiles)
        scores = np.empty(SEGMENT)
        piece, at = take(taken, 1), 0
        for s in range(slots.shape[0]):
            for n in range(starts[s], starts[s + 1]):
                n_seen = context_lens[s] + n - starts[s] + 1
                for begin in range(0, n_seen, SEGMENT):
                    for h in range(n_heads):
                        if at == piece:
                            if active[n]:
                                read_segment(
                                    projected, n, h, block_tables[s], keys, values, begin,
                                    min(begin + SEGMENT, n_seen), scores, partials,
                                )  # fmt: skip
                            add(done, 1, 1)
                            piece = take(taken, 1)
                        at += 1
        wait_for(done, 1, n_pieces)
        tile = take(taken, 2)
        while tile < n_tiles:
            first, last = tile * TILE, min((tile + 1) * TILE, n_rows)
            s = np.searchsorted(starts, first, side="right") - 1
            for n in range(first, last):
                while n >= starts[s + 1]:
                    s += 1
                if active[n]:
                    combine(n, context_lens[s] + n - starts[s] + 1, n_heads, partials, o)
            write_as_it_is(first, last, active, o, w_output, b_output, x)
            tile = take(taken, 2)


@operation(**OF_MIXERS, page_size=I64, sums=F32[:, :, :, ::1])
def linear_attention_layer(
    x, active, starts, context_lens, slots, state_tables, n_threads, eps, w_in, b_in, w_output,
    b_output, z, projected, o, page_size, sums,
):  # fmt: skip
    """Add to `x` what a mixer of linear attention writes, in active rows.

    Args:
        page_size: in tokens.
        sums: `[n_states, H, K, K + 1]`, updated in place.
        The others are those of the step and common ones.
    """
    n_rows, n_heads = starts[slots.shape[0]], sums.shape[1]
    n_tiles = (n_rows + TILE - 1) // TILE
    n_tasks = slots.shape[0] * n_heads
    taken, done = np.zeros(3, np.int64), np.zeros(2, np.int64)
    for _ in jit.prange(n_threads):
        tile = take(taken, 0)
        while tile < n_tiles:
            first, last = tile * TILE, min((tile + 1) * TILE, n_rows)
            project(first, last, x, eps, w_in, b_in, z, projected)
            add(done, 0, 1)
            tile = take(taken, 0)
        wait_for(done, 0, n_tiles)
        task = take(taken, 1)
        while task < n_tasks:
            s, h = task // n_heads, task % n_heads
            own = sums[slots[s], h]
            for n in range(starts[s], starts[s + 1]):
                accumulate(projected, n, h, own, o)
                held = context_lens[s] + n - starts[s] + 1
                if held % page_size == 0:
                    row = state_tables[s, held // page_size - 1]
                    if row >= 0:
                        sums[row, h] = own
            add(done, 1, 1)
            task = take(taken, 1)
        wait_for(done, 1, n_tasks)
        tile = take(taken, 2)
        while tile < n_tiles:
            first, last = tile * TILE, min((tile + 1) * TILE, n_rows)
            write_as_it_is(first, last, active, o, w_output, b_output, x)
            tile = take(taken, 2)
