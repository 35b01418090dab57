"""Attention that goes by the places of tokens: rotary, with a window for each head, or both.

Segments begin where those of plain attention do, and a head with a window reads the part of them
that it sees. So the order of additions depends on a reader's place alone, here, too.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalrn.model.ops.attention import BASE
from causalrn.model.ops.attention.cpu import (
    combine_head,
    first_seen,
    read_segment,
    remember,
    rotate,
)
from causalrn.model.ops.attention.cpu_layers import (
    OF_MIXERS,
    TILE,
    project,
    values_of_mixer,
    write_as_it_is,
)
from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.dealing import add, take, wait_for
from causalrn.model.ops.cpu.operations import Work, operation
from causalrn.model.ops.cpu.records import F32, F64, I64
from causalrn.model.ops.relation.cpu import SEGMENT
from causalrn.model.state import DecoderState, LayerState

_BITS = 32  # of a place


def turns_of(k: int) -> NDArray[np.float64]:
    """Cosines and sines of the rotations by 1, 2, 4 and so on places, `[32, 2, K/2]`.

    Args:
        k: channels of a head, K.
    """
    half = k // 2
    angles = 2.0 ** np.arange(_BITS)[:, None] * BASE ** -(np.arange(half) / half)
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def placed_attention_work(mixer: Any, layer: LayerState, state: DecoderState) -> Work:
    """What a `causalrn.model.mixers.attention.Attention` with such options asks for."""
    r, k = mixer.d_attention, mixer.d_attention // mixer.n_head
    values = values_of_mixer(mixer, state) | {
        "windows": np.array(mixer.windows, np.int64),
        "turns": turns_of(k) if mixer.rotary else np.empty((0, 2, 0)),
        "keys": layer.pool_arrays["keys"],
        "values": layer.pool_arrays["values"],
        "partials": state.scratch.segments(r + 2 * mixer.n_head),
    }
    narrow = [window for window in mixer.windows if 0 < window <= SEGMENT]
    return Work(
        values,
        per_row=r * r // 4 + k * sum(narrow),
        per_pair=k * (mixer.n_head - len(narrow)),
    )


@operation(
    **OF_MIXERS,
    windows=I64[::1],
    turns=F64[:, :, ::1],
    keys=F32[:, :, :, ::1],
    values=F32[:, :, :, ::1],
    partials=F32[:, :, ::1],
)
def placed_attention_layer(
    x, active, starts, context_lens, slots, block_tables, n_threads, eps, w_in, b_in, w_output,
    b_output, z, projected, o, windows, turns, keys, values, partials,
):  # fmt: skip
    """Add to `x` what such a mixer writes, in active rows.

    Args:
        windows: `[H]`, how many of the last memories each head sees; 0 for all.
        turns: see `turns_of`; empty for attention that is not rotary.
        The others are as for `causalrn.model.ops.attention.cpu_layers.attention_layer`. Keys are
        written as they are after their rotation.
    """
    n_rows, n_heads = starts[slots.shape[0]], keys.shape[1]
    n_tiles = (n_rows + TILE - 1) // TILE
    n_pieces = 0
    for s in range(slots.shape[0]):
        for n in range(starts[s], starts[s + 1]):
            n_seen = context_lens[s] + n - starts[s] + 1
            for h in range(n_heads):
                begin = first_seen(n_seen, windows[h]) // SEGMENT
                n_pieces += (n_seen + SEGMENT - 1) // SEGMENT - begin
    taken, done = np.zeros(3, np.int64), np.zeros(2, np.int64)
    for _ in jit.prange(n_threads):
        turn = np.empty((2, turns.shape[2]))
        tile = take(taken, 0)
        while tile < n_tiles:
            first, last = tile * TILE, min((tile + 1) * TILE, n_rows)
            project(first, last, x, eps, w_in, b_in, z, projected)
            s = np.searchsorted(starts, first, side="right") - 1
            for n in range(first, last):
                while n >= starts[s + 1]:
                    s += 1
                place = context_lens[s] + n - starts[s]
                if turns.shape[0]:
                    rotate(projected, n, n_heads, place, turns, turn)
                remember(projected, n, place, block_tables[s], keys, values)
            add(done, 0, 1)
            tile = take(taken, 0)
        wait_for(done, 0, n_tiles)
        scores = np.empty(SEGMENT)
        piece, at = take(taken, 1), 0
        for s in range(slots.shape[0]):
            for n in range(starts[s], starts[s + 1]):
                n_seen = context_lens[s] + n - starts[s] + 1
                for h in range(n_heads):
                    seen = first_seen(n_seen, windows[h])
                    for begin in range(seen // SEGMENT * SEGMENT, n_seen, SEGMENT):
                        if at == piece:
                            if active[n]:
                                read_segment(
                                    projected, n, h, block_tables[s], keys, values,
                                    max(begin, seen), min(begin + SEGMENT, n_seen), scores,
                                    partials,
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
                    n_seen = context_lens[s] + n - starts[s] + 1
                    for h in range(n_heads):
                        seen = first_seen(n_seen, windows[h])
                        combine_head(n, h, seen, n_seen, n_heads, partials, o)
            write_as_it_is(first, last, active, o, w_output, b_output, x)
            tile = take(taken, 2)
