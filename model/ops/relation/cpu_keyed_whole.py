"""The keyed relation over whole sequences, compiled by Numba, and its gradients.

Arguments as in `cpu_keyed.py`: every sequence lies in a page of its own, `[G, …]`, whose size is
the number of its memories T rounded up to whole runs.
"""

import math

import numpy as np

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.relation.cpu_keyed import (
    MARGIN,
    N_RUNS,
    RUN,
    SEGMENT,
    TILE,
    add_value_squares,
    add_weights,
    age,
    exact,
    find_best,
    full_match,
    gather,
    new_full,
    note_moments,
    note_squares,
    share,
)
from causalrn.model.ops.relation.cpu_keyed_blunt import compiled_is_blunt, new_blunt
from causalrn.model.ops.relation.cpu_keyed_pieces import read_blunt

_NEVER = -np.inf


@jit.inline
def _note_all_moments(keys, values, n_memories, reaches, tolerance, g, moments, own):
    for v in range(n_memories):
        gather(keys, g, v, own)
        row = values[g * keys.shape[2] + v]
        note_moments(own[0], row, reaches[g, v], tolerance, moments, g, v)


@jit.inline
def _put_together(best, partial, best_before, out):
    """Add the sum of a segment to those before it.

    Args:
        best, best_before: the exponents that the two are relative to.
        partial: `[d_value]`.
        out: `[d_value]`, updated.

    Returns:
        What `out` is relative to then.
    """
    of_all = max(best, best_before)
    old, new = share(best_before, of_all), share(best, of_all)
    for i in range(out.shape[0]):
        out[i] = out[i] * old + partial[i] * new
    return of_all


@jit.kernel
def forward(
    a_keys, a_values, keys, values, active, reaches, energy, d, temperature, recency, eps,
    tolerance, n_parts, out, bests,
):  # fmt: skip
    """out[g, t] = sum over v <= t of the weights of (t, v), relative to the largest of them.

    Args:
        a_keys: `[G, T, n_blocks·KEY_BLOCK]`, one group g a sequence.
        a_values: `[G, T, d_value]` or `[G, T, 0]`.
        keys, values: one page a group.
        active: `[G, T]` bool, readers that are wanted; the others get zeros.
        reaches: `[G, T]` int64 (`causalrn.model.ops.positions`).
        energy: float32, as for `full_match`; empty without a tolerance.
        d: channels of a pair.
        temperature, recency, eps: float64.
        n_parts: parts the readers are dealt into, each one thread's work.
        out: `[G, T, d_value]`, overwritten.
        bests: `[G, T]` float64, overwritten: the exponent of the largest weight.
    """
    n_groups, length, d_value = out.shape
    n_tiles = (length + TILE - 1) // TILE
    page_size = keys.shape[2]
    blunt = compiled_is_blunt(temperature, recency, tolerance, d)
    moments = np.empty((n_groups, 4, page_size), np.float32)
    for g in jit.prange(n_groups):
        own = np.empty((1, a_keys.shape[2]), np.float32)
        _note_all_moments(keys, values, length, reaches, tolerance, g, moments, own)
    for part in jit.prange(n_parts):
        squares = np.empty((TILE, SEGMENT), np.float32)
        value_squares = np.empty((TILE, SEGMENT), np.float32)
        scores, pairs = np.empty(SEGMENT, np.float32), np.empty((3, SEGMENT))
        wanted = np.ones(N_RUNS, np.bool_)
        partial, full = np.empty(d_value, np.float32), new_full(energy)
        own = np.empty((1, a_keys.shape[2]), np.float32)
        of_full = np.empty(RUN, np.float32)
        table = np.zeros(1, np.int32)
        scales, unsure, sums, totals, biggest = new_blunt(blunt, d_value)
        wanted_by_all = np.ones((TILE, N_RUNS), np.bool_)
        rows, best_of, match_of = np.empty(TILE, np.int64), np.empty(TILE), np.empty(0, np.float32)
        partials = np.empty((TILE, d_value), np.float32)
        for task in range(part, n_groups * n_tiles, n_parts):
            g = task // n_tiles
            t0 = (task % n_tiles) * TILE
            t1 = min(t0 + TILE, length)
            ak, av = a_keys[g], a_values[g]
            table[0] = g
            bests[g, t0:t1] = _NEVER
            out[g, t0:t1] = np.float32(0.0)
            if not active[g, t0:t1].any():
                continue
            if blunt:
                n_rows = 0
                for t in range(t0, t1):
                    if active[g, t]:
                        rows[n_rows] = t
                        n_rows += 1
                for begin in range(0, rows[n_rows - 1] + 1, SEGMENT):
                    read_blunt(
                        rows[:n_rows], 0, begin, wanted_by_all, ak, av, keys, values, moments,
                        table, reaches[g], energy, d, temperature, eps, squares, value_squares,
                        of_full, full, own, scales, unsure, sums, totals, biggest, best_of,
                        match_of, partials,
                    )  # fmt: skip
                    for i in range(n_rows):
                        if rows[i] >= begin:
                            bests[g, rows[i]] = _put_together(
                                best_of[i], partials[i], bests[g, rows[i]], out[g, rows[i]]
                            )
                continue
            for begin in range(0, t1, SEGMENT):
                value_squares[:] = np.float32(0.0)
                for run in range(begin, min(begin + SEGMENT, t1), RUN):
                    for t in range(max(t0, run), t1):
                        if not active[g, t]:
                            continue
                        n, at = min(RUN, t + 1 - run), run - begin
                        note_squares(ak, t, keys, g, run, keys.shape[1], squares[t - t0], at)
                        add_value_squares(
                            av, t, values, g * page_size + run, n, value_squares[t - t0], at
                        )
                for t in range(max(t0, begin), t1):
                    if not active[g, t]:
                        continue
                    end = min(begin + SEGMENT, t + 1)
                    full_match(reaches[g, t], energy, full)
                    best = find_best(
                        ak, av, t, t, keys, values, moments, table, begin, end, wanted, d,
                        temperature, recency, eps, tolerance, full, of_full, squares[t - t0],
                        value_squares[t - t0], scores, pairs, own,
                    )  # fmt: skip
                    partial[:] = np.float32(0.0)
                    add_weights(
                        av, t, t, values, page_size, table, begin, end, wanted, temperature,
                        recency, eps, pairs, best, partial,
                    )  # fmt: skip
                    bests[g, t] = _put_together(best, partial, bests[g, t], out[g, t])


@jit.kernel
def backward(a_keys, a_values, keys, values, active, reaches, energy, g, bests, d, temperature,
             recency, eps, tolerance, da_keys, da_values, db_keys, db_values, dt):  # fmt: skip
    """Gradients of `forward`, `bests` taken as constant.

    Args:
        a_keys, a_values, keys, values, active, reaches, energy, bests: as given to `forward` and
            left by it.
        g: gradient of the output, `[G, T, d_value]`.
        d, temperature, recency, eps: as for `forward`.
        da_keys, db_keys: `[G, T, d_key]`, overwritten.
        da_values, db_values: `[G, T, d_value]`, overwritten; `da_values` as wide as `a_values`.
        dt: `[G]` float64, overwritten: each group's gradient of the temperature.
    """
    n_groups, length, d_value = g.shape
    d_key, page_size = da_keys.shape[2], keys.shape[2]
    speaks = a_values.shape[2] > 0
    moments = np.empty((n_groups, 4, page_size), np.float32)
    for group in jit.prange(n_groups):
        ak, av = a_keys[group], a_values[group]
        dak, dav, dbk, dbv = da_keys[group], da_values[group], db_keys[group], db_values[group]
        dak[:], dav[:], dbk[:], dbv[:] = 0.0, 0.0, 0.0, 0.0
        dt[group] = 0.0
        own = np.empty((1, a_keys.shape[2]), np.float32)
        _note_all_moments(keys, values, length, reaches, tolerance, group, moments, own)
        squares, value_squares = np.empty(SEGMENT, np.float32), np.empty(SEGMENT, np.float32)
        scores, pairs = np.empty(SEGMENT, np.float32), np.empty((3, SEGMENT))
        wanted = np.ones(N_RUNS, np.bool_)
        y, full = np.empty(d_value), new_full(energy)
        of_full = np.empty(RUN, np.float32)
        table = np.full(1, group, np.int32)
        for t in range(length):
            if not active[group, t]:
                continue
            full_match(reaches[group, t], energy, full)
            for begin in range(0, t + 1, SEGMENT):
                end = min(begin + SEGMENT, t + 1)
                value_squares[:] = np.float32(0.0)
                for run in range(begin, end, RUN):
                    n, at = min(RUN, end - run), run - begin
                    note_squares(ak, t, keys, group, run, keys.shape[1], squares, at)
                    add_value_squares(av, t, values, group * page_size + run, n, value_squares, at)
                find_best(ak, av, t, t, keys, values, moments, table, begin, end, wanted, d,
                          temperature, recency, eps, tolerance, full, of_full, squares,
                          value_squares, scores, pairs, own)  # fmt: skip
                for j in range(end - begin):
                    if pairs[0, j] < bests[group, t] - MARGIN:
                        continue
                    v = begin + j
                    memory = values[group * page_size + v]
                    mean, deviation, keys_count = exact(
                        ak, av, t, keys, values, moments, group, v, d, tolerance, full, own
                    )
                    inv = 1.0 / (deviation + eps)
                    off = age(recency, t, v) + bests[group, t]
                    total = dot = 0.0
                    for i in range(d_value):
                        u = np.float64(memory[i]) - mean
                        if speaks:
                            u += np.float64(av[t, i])
                        y[i] = g[group, t, i] * math.exp(temperature * u * inv - off)
                        total += y[i]
                        dot += y[i] * u
                    dt[group] += dot * inv
                    # d(pair) = τ·inv·(y - mean(y)) - curve·(u - mean(u)); y is zero on keys. With a
                    # tolerance, keys are no part of the means.
                    curve = 0.0
                    if deviation > 0.0:
                        curve = temperature * inv * inv * dot / d / deviation
                    level = temperature * inv * total / d - curve * mean
                    of_keys = 0.0 if tolerance > 0.0 else level
                    for i in range(d_key if keys_count or tolerance == 0.0 else 0):
                        u = np.float64(ak[t, i]) + np.float64(own[0, i])
                        change = np.float32(-of_keys - curve * u)
                        dak[t, i] += change
                        dbk[v, i] += change
                    for i in range(d_value):
                        u = np.float64(memory[i])
                        if speaks:
                            u += np.float64(av[t, i])
                        change = np.float32(temperature * inv * y[i] - level - curve * u)
                        dbv[v, i] += change
                        if speaks:
                            dav[t, i] += change
