"""The mixer of the keyed relation on the CPU, for the new tokens of a whole batch.

A sequence that only reads pays for no pair, nor for readers: what a token costs then does not grow
with the sequence. Common arguments as in `cpu_layers.py`, whose promises hold here, too.
"""

from typing import Any

import numpy as np

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.bfloat16 import rounded, widened
from causalrn.model.ops.cpu.dealing import add, take, take_near, wait_for
from causalrn.model.ops.cpu.linear import add_spans, products_of, spans_of
from causalrn.model.ops.cpu.operations import Work, operation
from causalrn.model.ops.cpu.records import BOOL, F32, F64, I64
from causalrn.model.ops.norm.cpu import normalize_rows
from causalrn.model.ops.positions import SOURCE
from causalrn.model.ops.relation import KEY_BLOCK
from causalrn.model.ops.relation.cpu_keyed import (
    N_RUNS,
    RUN,
    SEGMENT,
    TILE,
    new_full,
    note_moments,
    outweighed,
)
from causalrn.model.ops.relation.cpu_keyed_blunt import compiled_is_blunt, is_blunt, new_blunt
from causalrn.model.ops.relation.cpu_keyed_pieces import (
    cut,
    look,
    put_together,
    read,
    read_blunt,
    want_best,
    want_others,
)
from causalrn.model.ops.relation.cpu_layers import (
    OF_MIXERS,
    active_run,
    shift,
    values_of_mixer,
    write,
)
from causalrn.model.ops.token_shift.cpu import keep_tails
from causalrn.model.state import DecoderState, LayerState

_WAVE = 64  # readers whose segments are kept until they are put together
_LOOK_FROM = 4 * RUN  # memories; fewer are read at once
_NEVER = -np.inf


def keyed_work(mixer: Any, layer: LayerState, state: DecoderState) -> Work:
    """What a keyed `causalrn.model.mixers.normalized.NormalizedRelation` asks for."""
    space, params = state.scratch, mixer.params
    d_key, d_value = params.n_keys, params.n_values
    names = (
        "taps", "w_a_keys", "b_a_keys", "w_a_values", "b_a_values", "w_b_keys", "w_b_values",
        "w_output", "b_output", "temperature",
    )  # fmt: skip
    weights = dict(zip(names, mixer.keyed_views(), strict=True))
    a_keys, b_keys = space.rows("keys", 2, params.n_key_blocks * KEY_BLOCK)
    (a_values,) = space.rows("spoken", 1, 0 if params.silent_values else d_value)
    b_values, o = space.rows("values", 2, d_value)
    projections = "a_keys", "a_values", "b_keys", "b_values"
    spans = {f"spans_{name}": spans_of(weights[f"w_{name}"]) for name in projections}
    values = values_of_mixer(mixer, layer, state) | weights | spans | {
        "recency": params.recency,
        "tolerance": params.tolerance,
        "tied": params.tied_keys,
        **{name: layer.pool_arrays[name] for name in ("keys", "values", "moments")},
        "energy": mixer.energy,
        "found": layer.state_arrays.get("found", space.nothing_found),
        "a_keys": a_keys,
        "b_keys": b_keys,
        "a_values": a_values,
        "b_values": b_values,
        "o": o,
        "partials": space.segments_of(_WAVE, SEGMENT, d_value),
    }  # fmt: skip
    # As measured, beside what it costs to start threads up to six times.
    per_pair = KEY_BLOCK if params.silent_values else params.d_relation
    tau = float(weights["temperature"][0])
    if is_blunt(tau, params.recency, params.tolerance, params.d_relation):
        per_pair = d_value + d_key // 4
    n_products = sum(map(products_of, spans.values()))
    return Work(values, per_row=(n_products + weights["taps"].size) // 24, per_pair=per_pair)


@jit.inline
def _project(first, last, rows, w, spans, b, out):
    """out = w · rows + b, for rows `first` to `last - 1`; no b at all for zeros.

    Channels of `out` that `w` does not have get zeros.
    """
    for n in range(first, last):
        for i in range(out.shape[1]):
            out[n, i] = b[i] if i < b.shape[0] else np.float32(0.0)
    add_spans(rows, first, last, w, spans, out)


@operation(
    ["values"], ["keys", "values"], **OF_MIXERS,
    w_a_keys=F32[:, ::1], b_a_keys=F32[::1], w_a_values=F32[:, ::1],
    b_a_values=F32[::1], w_b_keys=F32[:, ::1], w_b_values=F32[:, ::1], w_output=F32[:, ::1],
    b_output=F32[::1], spans_a_keys=I64[:, ::1], spans_a_values=I64[:, ::1],
    spans_b_keys=I64[:, ::1], spans_b_values=I64[:, ::1], temperature=F32[::1], recency=F64,
    tolerance=F64, tied=BOOL, keys=F32[:, :, :, ::1], values=F32[:, :, ::1],
    moments=F32[:, :, :, ::1], energy=F32[::1], found=F64[:, ::1], a_keys=F32[:, ::1],
    b_keys=F32[:, ::1], a_values=F32[:, ::1], b_values=F32[:, ::1], o=F32[:, ::1],
    partials=F32[:, :, ::1],
)  # fmt: skip
def keyed_layer(
    x, active, phases, reaches, starts, context_lens, slots, block_tables, state_tables,
    n_threads, eps, page_size, within_turn, boundless, channel, taps, tails, z, readers,
    memories, w_a_keys, b_a_keys, w_a_values, b_a_values, w_b_keys, w_b_values, w_output,
    b_output, spans_a_keys, spans_a_values, spans_b_keys, spans_b_values, temperature, recency,
    tolerance, tied, keys, values, moments, energy, found, a_keys, b_keys, a_values, b_values,
    o, partials,
):  # fmt: skip
    """Add to `x` what a mixer of the keyed relation writes, in active rows.

    Args:
        w_a_keys, b_a_keys, w_a_values, b_a_values: of readers; no rows for values they are silent
            on.
        w_b_keys, w_b_values: of memories.
        w_output, b_output: `[D, d_value]`, `[D]`.
        spans_a_keys, spans_a_values, spans_b_keys, spans_b_values: of the weights of readers and
            memories.
        temperature: `[1]`, of the relation.
        recency, tolerance: of the relation.
        tied: whether the keys of memories are negated.
        keys: `[n_pages, n_blocks, page_size, KEY_BLOCK]`, float32 or bfloat16, written.
        values: `[n_pages, page_size, d_value]`, float32 or bfloat16, written.
        moments: `[n_pages, 4, page_size, 1]`, written.
        energy: squares of the keys that come of each of the last tokens, one for each tap; empty if
            nobody asks how well readers matched, and there is no tolerance.
        found: `[n_states, 2]` float64, updated in place: how many rows of the turn have read, and
            one minus the least of their matches.
        a_keys, b_keys, a_values, b_values, o: `[N, *]` scratch.
        partials: `[n_segments, wave, d_value]` scratch, with enough segments for the longest pool.
        The others are those of the step and of `cpu_layers.OF_MIXERS`.
    """
    n_rows = starts[slots.shape[0]]
    n_tiles = (n_rows + TILE - 1) // TILE
    tau = np.float64(temperature[0])
    limits = reaches if within_turn else boundless
    sign = np.float32(-1.0 if tied else 1.0)
    d = w_a_keys.shape[0] + values.shape[2]
    all_values = values.reshape(-1, values.shape[2])
    all_moments = moments.reshape(-1, 4, page_size)
    none = np.empty(0, np.float32)
    n_active = 0
    for n in range(n_rows):
        n_active += active[n]
    taken, done = np.zeros(1, np.int64), np.zeros(2, np.int64)
    near = np.zeros((3, n_threads), np.int64)
    for thread in jit.prange(n_threads):
        normalize_rows(near, thread, n_threads, done, x, n_rows, eps, z)
        tile = take_near(near[1], thread, n_threads, n_tiles)
        while tile < n_tiles:
            first, last = tile * TILE, min((tile + 1) * TILE, n_rows)
            shift(first, last, active, starts, slots, limits, channel, taps, tails, z, readers,
                  memories)  # fmt: skip
            _project(first, last, memories, w_b_keys, spans_b_keys, none, b_keys)
            _project(first, last, memories, w_b_values, spans_b_values, none, b_values)
            s = np.searchsorted(starts, first, side="right") - 1
            for n in range(first, last):
                while n >= starts[s + 1]:
                    s += 1
                held = context_lens[s] + n - starts[s]
                page, place = block_tables[s, held // page_size], held % page_size
                for i in range(b_keys.shape[1]):
                    key = rounded(b_keys[n, i] * sign, keys)
                    keys[page, i // KEY_BLOCK, place, i % KEY_BLOCK] = key
                    b_keys[n, i] = widened(key)
                for i in range(b_values.shape[1]):
                    value = rounded(b_values[n, i], values)
                    values[page, place, i] = value
                    b_values[n, i] = widened(value)
                note_moments(
                    b_keys[n], b_values[n], reaches[n], tolerance, all_moments, page, place
                )
            first, end = active_run(first, last, active)
            while first < end:
                _project(first, end, readers, w_a_keys, spans_a_keys, b_a_keys, a_keys)
                if tied:  # what is rounded alike still cancels to the last bit
                    for n in range(first, end):
                        for i in range(a_keys.shape[1]):
                            a_keys[n, i] = widened(rounded(a_keys[n, i], keys))
                if a_values.shape[1]:
                    _project(
                        first, end, readers, w_a_values, spans_a_values, b_a_values, a_values
                    )  # fmt: skip
                first, end = active_run(end, last, active)
            add(done, 1, 1)
            tile = take_near(near[1], thread, n_threads, n_tiles)
        wait_for(done, 1, n_tiles)
        keep_tails(
            taken, starts, context_lens, slots, state_tables, page_size, channel, tails, z
        )  # fmt: skip
    # Pieces of the work on the pools: up to TILE active readers of one sequence, one segment.
    order = np.empty(n_active, np.int64)  # active rows
    owners = np.empty(n_active, np.int64)  # and their sequences
    at = 0
    for s in range(slots.shape[0]):
        for n in range(starts[s], starts[s + 1]):
            if active[n]:
                order[at], owners[at] = n, s
                at += 1
    # All exponents lie between -T and T. Where these are near to each other, or readers speak on
    # values, some keys are not enough to see that a pair does not count.
    largest = tau * np.sqrt(d - 1.0)
    blunt = compiled_is_blunt(tau, recency, tolerance, d)
    is_sharp = outweighed(np.float32(-largest), largest)
    looks_first = is_sharp and keys.shape[1] > 1 and not a_values.shape[1]
    matches = np.empty(n_active, np.float32)
    n_spoken = TILE if a_values.shape[1] else 0
    for wave in range(0, n_active, _WAVE):
        n_wave = min(_WAVE, n_active - wave)
        pieces = cut(order, owners, context_lens, starts, wave, n_wave)
        n_segments = pieces[:, 2].max() + 1
        bests = np.full((n_segments, n_wave), _NEVER)
        found_here = np.zeros((n_segments, n_wave), np.float32)
        wanted = np.ones((n_segments, n_wave, N_RUNS), np.bool_)
        longest = 0
        for piece in range(pieces.shape[0]):
            low, high, _ = pieces[piece]
            s = owners[low]
            longest = max(longest, context_lens[s] - starts[s] + order[high - 1] + 1)
        n_rounds = 2 if looks_first and longest > _LOOK_FROM else 1
        n_looks = n_wave if n_rounds == 2 else 0
        scores = np.full((n_looks, n_segments, N_RUNS), _NEVER, np.float32)
        findable = np.zeros((n_looks, n_segments, N_RUNS), np.float32)
        leads = np.zeros(n_looks, np.int64)  # of each reader, the segment with the best run
        dealt = np.zeros(3, np.int64)  # of the look and of two reads
        if n_rounds == 2:
            for _ in jit.prange(n_threads):
                squares = np.empty((TILE, SEGMENT), np.float32)
                of_pairs, full = np.empty(SEGMENT, np.float32), new_full(energy)
                of_full = np.empty(RUN, np.float32)
                piece = take(dealt, 0)
                while piece < pieces.shape[0]:
                    low, high, segment = pieces[piece]
                    s, first, last = owners[low], low - wave, high - wave
                    look(
                        order[low:high], context_lens[s] - starts[s], segment * SEGMENT,
                        wanted[segment, first:last], a_keys, a_values, keys, all_values,
                        all_moments, block_tables[s], reaches, energy, d, tau, eps, tolerance,
                        squares, of_pairs, of_full, full, scores[first:last, segment],
                        findable[first:last, segment],
                    )  # fmt: skip
                    piece = take(dealt, 0)
            want_best(scores, wanted, leads)
        for number in range(n_rounds):
            if number == 1:
                want_others(scores, findable, leads, bests, found_here, wanted)
            for _ in jit.prange(n_threads):
                squares = np.empty((TILE, SEGMENT), np.float32)
                value_squares = np.empty((n_spoken, SEGMENT), np.float32)
                of_pairs, pairs = np.empty(SEGMENT, np.float32), np.empty((3, SEGMENT))
                of_full = np.empty(RUN, np.float32)
                full, one = new_full(energy), np.empty((1, a_keys.shape[1]), np.float32)
                scales, unsure, sums, totals, biggest = new_blunt(blunt, values.shape[2])
                piece = take(dealt, 1 + number)
                while piece < pieces.shape[0]:
                    low, high, segment = pieces[piece]
                    s, first, last = owners[low], low - wave, high - wave
                    if blunt:
                        read_blunt(
                            order[low:high], context_lens[s] - starts[s], segment * SEGMENT,
                            wanted[segment, first:last], a_keys, a_values, keys, all_values,
                            all_moments, block_tables[s], reaches, energy, d, tau, eps, squares,
                            value_squares, of_full, full, one, scales, unsure, sums, totals,
                            biggest, bests[segment, first:last], found_here[segment, first:last],
                            partials[segment, first:last],
                        )  # fmt: skip
                    elif wanted[segment, first:last].any():
                        read(
                            order[low:high], context_lens[s] - starts[s], segment * SEGMENT,
                            wanted[segment, first:last], a_keys, a_values, keys, all_values,
                            all_moments, block_tables[s], reaches, energy, d, tau, recency, eps,
                            tolerance, squares, value_squares, of_pairs, of_full, pairs, full, one,
                            bests[segment, first:last], found_here[segment, first:last],
                            partials[segment, first:last],
                        )  # fmt: skip
                    piece = take(dealt, 1 + number)
        put_together(bests, found_here, partials, order[wave : wave + n_wave], o, matches[wave:])
    if n_active:  # none in a prompt: its layers start threads once
        for thread in jit.prange(n_threads):
            tile = take_near(near[2], thread, n_threads, n_tiles)
            while tile < n_tiles:
                last = min((tile + 1) * TILE, n_rows)
                write(tile * TILE, last, active, o, w_output, b_output, eps, x)
                tile = take_near(near[2], thread, n_threads, n_tiles)
    if energy.shape[0]:
        at = 0
        for s in range(slots.shape[0]):
            own = found[slots[s]]
            for n in range(starts[s], starts[s + 1]):
                if phases[n] == SOURCE and reaches[n] == 0:
                    own[:] = 0.0
                if active[n]:
                    own[0] += 1.0
                    own[1] = max(own[1], 1.0 - matches[at])
                    at += 1
                held = context_lens[s] + n - starts[s] + 1
                if held % page_size == 0:
                    row = state_tables[s, held // page_size - 1]
                    if row >= 0:
                        found[row] = own
