"""The pairwise mixer on the CPU, for the new tokens of a whole batch.

A reader adds up a segment of memories in ascending order, and then segments in ascending order. The
order depends on nothing but its own place, so it gets the same bits in any batch, any chunking, any
pages and on any number of threads.
"""

from typing import Any

import numpy as np

from causalrn.model.ops.attention.cpu_layers import write_as_it_is
from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.dealing import add, take, wait_for
from causalrn.model.ops.cpu.linear import add_product
from causalrn.model.ops.cpu.operations import Work, operation
from causalrn.model.ops.cpu.records import F32, F64, I64
from causalrn.model.ops.norm.cpu import normalize
from causalrn.model.ops.pairwise.cpu import N_ROWS, add_activation, normalize_pair
from causalrn.model.ops.relation.cpu import SEGMENT, combine
from causalrn.model.ops.relation.cpu_layers import write
from causalrn.model.state import DecoderState, LayerState

_TILE = 8  # rows that one thread takes at a time
_F0 = np.float32(0.0)


def pairwise_work(mixer: Any, layer: LayerState, state: DecoderState) -> Work:
    """What a `causalrn.model.mixers.pairwise.PairwiseRelation` asks for."""
    r, space = mixer.d_relation, state.scratch
    names = (
        "w_reader",
        "b_reader",
        "w_memory",
        "w_output",
        "b_output",
        "temperatures",
        "coefficients",
    )
    values = dict(zip(names, mixer.views(), strict=True)) | {
        "eps": mixer.norm_eps,
        "form": mixer.form.codes,
        "normalizes_output": int(mixer.normalizes_output),
        "z": space.rows("inputs", 3, mixer.d_model)[0],
        "a": space.rows("readers", 2, r)[0],
        "b": space.rows("readers", 2, r)[1],
        "o": space.rows("related", 1, r)[0],
        "partials": space.segments(r),
        "pool": layer.pool_arrays["pool"],
    }
    return Work(values, per_row=r * r // 5, per_pair=4 * r)


@jit.inline
def _project(first, last, x, eps, form, n_heads, w_reader, b_reader, w_memory, z, a, b):
    """Readers and memories of rows `first` to `last - 1`."""
    k = b_reader.shape[0] // n_heads
    for n in range(first, last):
        normalize(x[n], eps, z[n])
        for i in range(b_reader.shape[0]):
            a[n, i] = b_reader[i]
            b[n, i] = _F0
    add_product(z, first, last, w_reader, a)
    add_product(z, first, last, w_memory, b)
    if form[3]:
        for n in range(first, last):
            for i in range(0, b_reader.shape[0], k):
                normalize(a[n, i : i + k], eps, a[n, i : i + k])
                normalize(b[n, i : i + k], eps, b[n, i : i + k])


@jit.inline
def _relate(
    reader, h, table, pool, begin, end, form, eps, temperature, coefficients, space, out
):  # fmt: skip
    """out = sum over memories `begin` to `end - 1` of one head, for one reader of it."""
    page_size = pool.shape[2]
    for i in range(out.shape[0]):
        out[i] = _F0
    for v in range(begin, end):
        memory = pool[np.int64(table[v // page_size]), h, v % page_size]
        normalize_pair(reader, memory, form, eps, temperature, space)
        add_activation(form, coefficients, space, out)


@operation(
    eps=F64,
    form=I64[::1],
    normalizes_output=I64,
    w_reader=F32[:, ::1],
    b_reader=F32[::1],
    w_memory=F32[:, ::1],
    w_output=F32[:, ::1],
    b_output=F32[::1],
    temperatures=F32[::1],
    coefficients=F32[::1],
    z=F32[:, ::1],
    a=F32[:, ::1],
    b=F32[:, ::1],
    o=F32[:, ::1],
    pool=F32[:, :, :, ::1],
    partials=F32[:, :, ::1],
)
def pairwise_layer(
    x, active, starts, context_lens, slots, block_tables, n_threads, eps, form, normalizes_output,
    w_reader, b_reader, w_memory, w_output, b_output, temperatures, coefficients, z, a, b, o, pool,
    partials,
):  # fmt: skip
    """Add to `x` what a mixer of a pairwise relation writes, in active rows.

    Args:
        eps: added to deviations.
        form: see `cpu.py`.
        normalizes_output: whether there is a norm behind the relation.
        w_reader, b_reader, w_memory, w_output, b_output: `[R, D]`, `[R]`, `[R, D]`, `[D, R]`,
            `[D]`.
        temperatures, coefficients: `[H]` and `[4]`.
        z, a, b, o: `[N, D]` and three `[N, R]`, scratch, which may be longer than the batch.
        pool: `[n_pages, H, page_size, K]`, written.
        partials: `[n_segments, N, R]` scratch, with enough segments for the longest pool.
        The others are those of the step.
    """
    n_rows = starts[slots.shape[0]]
    n_heads, page_size, k = pool.shape[1:]
    n_tiles = (n_rows + _TILE - 1) // _TILE
    n_pieces = 0
    for s in range(slots.shape[0]):
        for n in range(starts[s], starts[s + 1]):
            n_pieces += n_heads * ((context_lens[s] + n - starts[s]) // SEGMENT + 1)
    taken, done = np.zeros(3, np.int64), np.zeros(2, np.int64)
    for _ in jit.prange(n_threads):
        tile = take(taken, 0)
        while tile < n_tiles:
            first, last = tile * _TILE, min((tile + 1) * _TILE, n_rows)
            _project(first, last, x, eps, form, n_heads, w_reader, b_reader, w_memory, z, a, b)
            s = np.searchsorted(starts, first, side="right") - 1
            for n in range(first, last):
                while n >= starts[s + 1]:
                    s += 1
                place = context_lens[s] + n - starts[s]
                page = np.int64(block_tables[s, place // page_size])
                for h in range(n_heads):
                    for i in range(k):
                        pool[page, h, place % page_size, i] = b[n, h * k + i]
            add(done, 0, 1)
            tile = take(taken, 0)
        wait_for(done, 0, n_tiles)
        space = np.empty((N_ROWS, k), np.float32)
        piece, at = take(taken, 1), 0
        for s in range(slots.shape[0]):
            for n in range(starts[s], starts[s + 1]):
                n_seen = context_lens[s] + n - starts[s] + 1
                for begin in range(0, n_seen, SEGMENT):
                    for h in range(n_heads):
                        if at == piece:
                            if active[n]:
                                _relate(
                                    a[n, h * k : (h + 1) * k], h, block_tables[s], pool, begin,
                                    min(begin + SEGMENT, n_seen), form, eps, temperatures[h],
                                    coefficients, space,
                                    partials[begin // SEGMENT, n, h * k : (h + 1) * k],
                                )  # fmt: skip
                            add(done, 1, 1)
                            piece = take(taken, 1)
                        at += 1
        wait_for(done, 1, n_pieces)
        tile = take(taken, 2)
        while tile < n_tiles:
            first, last = tile * _TILE, min((tile + 1) * _TILE, n_rows)
            s = np.searchsorted(starts, first, side="right") - 1
            for n in range(first, last):
                while n >= starts[s + 1]:
                    s += 1
                if active[n]:
                    combine(n, context_lens[s] + n - starts[s] + 1, partials, o)
            if normalizes_output:
                write(first, last, active, o, w_output, b_output, eps, x)
            else:
                write_as_it_is(first, last, active, o, w_output, b_output, x)
            tile = take(taken, 2)
