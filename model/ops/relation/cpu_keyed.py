"""The keyed relation on the CPU, compiled by Numba: parts of forward, backward and `extend`.

Each (reader, memory) pair is first scored: an addition and a product for each channel of the keys
give its standard deviation, and with that the exponent of its largest weight, in float32. Only
pairs whose score comes within `_MARGIN` of the best one of their segment are worth exponentials;
the others would change no bit of a sum in float32. What these few get is computed in float64, so
that an exponent of a million loses nothing. `cpu_keyed_pieces.py` says which segments are scored at
all.

A segment is `SEGMENT` memories, counted from the start of the sequence. Its pairs are added up in
ascending order relative to its own best exponent; then the segments are put together. The order
depends on nothing else, so `extend` gives the same bits in any batch and any chunking, for any
number of threads.

Common arguments: `keys` `[E, d_key]` and `values` `[E, d_value]` float32, one row a memory, and
`moments` `[E, 4]` float32: the sum of its channels, the sum of the squares of its values, the
largest of its values, and its reach (`model.ops.positions`). `a_values` `[N, d_value]`, what
readers say of values, has no columns where they say nothing. `tolerance`, float64: so many times
what a full match leaves of the keys (`full_match`) counts as nothing, and what keys add up to is
left out of sums and means; 0 if all that keys leave counts. `full`, of a reader, as `full_match`
leaves it. `wanted` `[N_RUNS]` bool, of a reader and a segment: which runs of memories are meant;
whatever is told of the others, they do not count.
"""

import math

import numpy as np

from model.ops.cpu import jit
from model.ops.cpu.lanes import (
    add_one_pair_squares,
    add_sixteen_pair_squares,
    double_pair_sums,
    exp2,
    row_dot,
    row_sum,
)

SEGMENT = 512  # memories whose pairs are added up relative to one exponent
RUN = 16  # memories that lie side by side in a page
N_RUNS = SEGMENT // RUN
TILE = 8  # readers that share a run of memories
_MARGIN = 64.0  # below the best exponent by more than this, a weight is less than 2^-92 of it
_SLACK = 1e-5  # of an exponent, for what a score in float32 may be off
_ULP = 6e-8  # by which a float32 may be off, as a share of it
_FAINT = 1e-12  # of the energy of a token: what older ones than that leave is taken for nothing
_LOG2E = 1.4426950408889634
_LEAST = np.float32(-126.0)  # exponents of 2 below this have no normal float32
_MAX_MEAN = np.float32(4.0)  # as in `cpu.py`: above, E[u²] - E[u]² loses too much
_NEVER = -np.inf


@jit.inline
def full_match(reach, energy, full):
    """Write what a full match leaves of the keys of a reader, by the reach of the memory.

    Borders of turns add nothing to keys. A memory thus leaves what its turn had before the reader's
    began; one whose turn began later cannot match in full.

    Args:
        reach: of the reader.
        energy: squares of the keys that come of each of the last tokens, one for each tap; empty if
            nobody asks.
        full: `[len(energy) + 2]`, the last one for all memories that reach further; or nothing at
            all if there is no energy. Written.
    """
    if not energy.shape[0]:
        return
    left = np.float32(_FAINT) * energy[0]
    full[0] = left
    for tap in range(energy.shape[0]):
        full[tap + 1] = left
        if tap >= reach:
            left += energy[tap]
    full[energy.shape[0] + 1] = left


@jit.inline
def new_full(energy):
    """An array that `full_match` can write."""
    return np.empty(energy.shape[0] + 2 if energy.shape[0] else 0, np.float32)


@jit.inline
def _left_by_full(full, moments, v):
    """What a full match with that memory would leave of the keys."""
    return full[np.uintp(min(moments[v, 3], np.float32(full.shape[0] - 1)))]


@jit.inline
def note_moments(keys, values, row, reach, tolerance, moments):
    """Write the moments of one memory."""
    moments[row, 3] = reach
    moments[row, 0] = row_sum(values[row])
    if tolerance == 0.0:
        moments[row, 0] += row_sum(keys[row])
    moments[row, 1] = row_dot(values[row], values[row], 0.0)
    largest = values[row, 0]
    for i in range(1, values.shape[1]):
        largest = max(largest, values[row, i])
    moments[row, 2] = largest


@jit.inline
def _entry(table, page_size, v):
    """Row of the v-th memory of a sequence, by its pages."""
    return table[v // page_size] * page_size + v % page_size


@jit.inline
def _largest_value(a_values, row, values, v, moments):
    """The largest value channel of a pair, in float64."""
    if not a_values.shape[1]:
        return np.float64(moments[v, 2])
    largest = _NEVER
    for i in range(values.shape[1]):
        largest = max(largest, np.float64(a_values[row, i]) + np.float64(values[v, i]))
    return largest


@jit.inline
def _exact(a_keys, a_values, row, keys, values, moments, v, tolerance, full):
    """Mean and standard deviation of a pair, added up in float64, and whether its keys count."""
    total, squares = double_pair_sums(a_keys, row, keys, v)
    if tolerance > 0.0:
        total, squares = 0.0, squares - tolerance * _left_by_full(full, moments, v)
    keys_count = squares > 0.0
    squares = max(squares, 0.0)
    if a_values.shape[1]:
        more, more_squares = double_pair_sums(a_values, row, values, v)
    else:
        more, more_squares = row_sum(values[v]), row_dot(values[v], values[v], 0.0)
    d = keys.shape[1] + values.shape[1]
    mean = (total + more) / d
    return mean, math.sqrt(max(0.0, (squares + more_squares) / d - mean * mean)), keys_count


@jit.inline
def add_squares(a, row, b, first, n, width, squares, at):
    """Add the squares of the first `width` channels of n pairs, one run, to `squares` from `at`."""
    if width == 0:
        return
    if n == RUN:
        add_sixteen_pair_squares(a, row, b, first, width, squares, at)
        return
    for j in range(n):
        add_one_pair_squares(a, row, b, first + j, width, squares, at + j)


@jit.inline
def score(a_keys, a_values, row, values, moments, table, page_size, begin, end, wanted, d,
          temperature, eps, tolerance, full, squares, value_squares, scores):  # fmt: skip
    """Score the pairs of one reader with one segment: the exponents of their largest weights.

    Args:
        row: of the reader in `a_keys` and `a_values`.
        table, page_size: of the sequence's pages.
        begin, end: the segment's memories.
        d: channels of a pair.
        temperature, eps: float64.
        squares, value_squares: `[SEGMENT]`, as `add_squares` leaves them. With those of some keys
            only, scores are bounds: no exponent is larger, but for those below 0.
        scores: `[SEGMENT]` float32, written; infinite where float32 cannot tell. With a tolerance,
            scores are bounds, too: what keys leave is rounded down.
    """
    speaks, tolerates = a_values.shape[1] > 0, tolerance > 0.0
    total = np.float32(row_sum(a_values[row])) if speaks else np.float32(0.0)
    if not tolerates:
        total += np.float32(row_sum(a_keys[row]))
    inv_d, off = np.float32(1.0 / d), (a_keys.shape[1] + 4) * _ULP
    down, tolerated = np.float32(1.0 - off), np.float32(tolerance * (1.0 + off))
    tau, extra = np.float32(temperature), np.float32(eps)
    for run in range(begin, end, RUN):
        if not wanted[(run - begin) // RUN]:
            continue
        n, at = min(RUN, end - run), run - begin
        first = _entry(table, page_size, run)
        own, left, out = moments[first : first + n], squares[at : at + n], scores[at : at + n]
        if speaks:
            for j in range(n):
                largest = _largest_value(a_values, row, values, first + j, moments)
                mean = (total + own[j, 0]) * inv_d
                kept = _kept(left[j], own, j, tolerated, down, full) if tolerates else left[j]
                variance = (kept + value_squares[at + j]) * inv_d - mean * mean
                out[j] = _exponent(np.float32(largest), mean, variance, tau, extra)
        elif tolerates:
            for j in range(n):
                mean = (total + own[j, 0]) * inv_d
                kept = _kept(left[j], own, j, tolerated, down, full)
                variance = (kept + own[j, 1]) * inv_d - mean * mean
                out[j] = _exponent(own[j, 2], mean, variance, tau, extra)
        else:
            for j in range(n):
                mean = (total + own[j, 0]) * inv_d
                variance = (left[j] + own[j, 1]) * inv_d - mean * mean
                out[j] = _exponent(own[j, 2], mean, variance, tau, extra)


@jit.inline
def _kept(left, moments, j, tolerated, down, full):
    """What counts of what a pair's keys leave, rounded down."""
    return max(left * down - tolerated * _left_by_full(full, moments, j), np.float32(0.0))


@jit.inline
def _exponent(largest, mean, variance, tau, extra):
    """The exponent of a pair's largest weight in float32; infinite where that cannot tell."""
    exponent = tau * (largest - mean) / (math.sqrt(variance) + extra)
    return exponent if mean * mean <= _MAX_MEAN * variance else np.float32(np.inf)


@jit.inline
def best_match(full, moments, table, page_size, begin, end, wanted, squares):
    """The best match in a segment, 1 at most: what a full one leaves, by what a pair left.

    Args:
        full: of the reader; empty if nobody asks, and the match is 0 then.
        moments, table, page_size, begin, end: as for `score`.
        squares: `[SEGMENT]`, as `add_squares` leaves them. With those of some keys only, the match
            is a bound: no pair matches better.
    """
    match = np.float32(0.0)
    if not full.shape[0]:
        return match
    for run in range(begin, end, RUN):
        if wanted[(run - begin) // RUN]:
            first, n = _entry(table, page_size, run), min(RUN, end - run)
            match = max(match, match_in_run(full, moments, first, n, squares, run - begin))
    return match


@jit.inline
def match_in_run(full, moments, first, n, squares, at):
    """The best match among n memories from row `first` on, whose squares begin at `at`."""
    match = np.float32(0.0)
    for j in range(n):
        left = _left_by_full(full, moments, first + j)
        if left > match * squares[at + j]:
            match = max(match, left / max(left, squares[at + j]))
    return match


@jit.inline
def _age(recency, t, v):
    """What is taken off the exponent of the v-th memory for a reader at place t."""
    return recency * math.log1p(np.float64(t - v)) if recency > 0.0 else 0.0


@jit.inline
def find_best(a_keys, a_values, row, t, keys, values, moments, table, page_size, begin, end,
              wanted, temperature, recency, eps, tolerance, full, squares, value_squares, scores,
              tops):  # fmt: skip
    """Do the best pairs of one reader with one segment in float64.

    Args:
        t: place of the reader in its sequence, from 0.
        temperature, recency, eps: float64.
        squares, value_squares: of all channels.
        scores: `[SEGMENT]` float32 scratch.
        tops: `[SEGMENT]` float64, written: the exponent of a pair's largest weight, or -inf for
            pairs that are not worth exponentials.
        The others are as for `score`.

    Returns:
        The largest of these exponents.
    """
    d = keys.shape[1] + values.shape[1]
    score(a_keys, a_values, row, values, moments, table, page_size, begin, end, wanted, d,
          temperature, eps, tolerance, full, squares, value_squares, scores)  # fmt: skip
    best = _NEVER
    for j in range(end - begin - 1, -1, -1):  # the youngest first, which age takes least off
        tops[j] = _NEVER
        if not wanted[j // RUN] or outweighed(scores[j], best):
            continue
        age = _age(recency, t, begin + j)
        if outweighed(scores[j], best + age):
            continue
        v = _entry(table, page_size, begin + j)
        middle, deviation, _ = _exact(
            a_keys, a_values, row, keys, values, moments, v, tolerance, full
        )
        largest = _largest_value(a_values, row, values, v, moments)
        tops[j] = temperature * ((largest - middle) / (deviation + eps)) - age
        best = max(best, tops[j])
    return best


@jit.inline
def outweighed(score, best):
    """Whether an exponent of that score or less is too far below the best one to count."""
    return score < best - _MARGIN - _SLACK * abs(np.float64(score))


@jit.inline
def add_weights(a_keys, a_values, row, t, keys, values, moments, table, page_size, begin, end,
                temperature, recency, eps, tolerance, full, tops, best, out):  # fmt: skip
    """out += the weights of the pairs of one reader with one segment, relative to `best`.

    Args:
        tops, best: as `find_best` leaves them.
        out: `[d_value]` float32.
    """
    speaks = a_values.shape[1] > 0
    for j in range(end - begin):
        if tops[j] < best - _MARGIN:
            continue
        v = _entry(table, page_size, begin + j)
        mean, deviation, _ = _exact(
            a_keys, a_values, row, keys, values, moments, v, tolerance, full
        )
        scale = temperature / (deviation + eps) * _LOG2E
        shift = mean * scale + (best + _age(recency, t, begin + j)) * _LOG2E
        if speaks:
            for i in range(values.shape[1]):
                u = np.float64(values[v, i]) + np.float64(a_values[row, i])
                out[i] += exp2(max(np.float32(u * scale - shift), _LEAST))
        else:
            for i in range(values.shape[1]):
                y = np.float32(np.float64(values[v, i]) * scale - shift)
                out[i] += exp2(max(y, _LEAST))


@jit.inline
def share(best, of_all):
    """By what a segment's weights are multiplied to be relative to the best of all segments."""
    return np.float32(math.exp(best - of_all)) if best >= of_all - _MARGIN else np.float32(0.0)


@jit.kernel
def forward(
    a_keys, a_values, keys, values, active, reaches, energy, temperature, recency, eps, tolerance,
    n_parts, out, bests,
):  # fmt: skip
    """out[g, t] = sum over v <= t of the weights of (t, v), relative to the largest of them.

    Args:
        a_keys: `[G, T, d_key]`, one group g a sequence.
        a_values: `[G, T, d_value]` or `[G, T, 0]`.
        keys, values: `[G, T, d_key]`, `[G, T, d_value]`.
        active: `[G, T]` bool, readers that are wanted; the others get zeros.
        reaches: `[G, T]` int64 (`model.ops.positions`).
        energy: float32, as for `full_match`; empty without a tolerance.
        temperature, recency, eps: float64.
        n_parts: parts the readers are dealt into, each one thread's work.
        out: `[G, T, d_value]`, overwritten.
        bests: `[G, T]` float64, overwritten: the exponent of the largest weight.
    """
    n_groups, length, d_value = out.shape
    d_key = keys.shape[2]
    n_tiles = (length + TILE - 1) // TILE
    moments = np.empty((n_groups, length, 4), np.float32)
    for g in jit.prange(n_groups):
        for v in range(length):
            note_moments(keys[g], values[g], v, reaches[g, v], tolerance, moments[g])
    for part in jit.prange(n_parts):
        squares = np.empty((TILE, SEGMENT), np.float32)
        value_squares = np.empty((TILE, SEGMENT), np.float32)
        scores, tops = np.empty(SEGMENT, np.float32), np.empty(SEGMENT)
        wanted = np.ones(N_RUNS, np.bool_)
        partial, full = np.empty(d_value, np.float32), new_full(energy)
        table = np.zeros(1, np.int32)
        for task in range(part, n_groups * n_tiles, n_parts):
            g = task // n_tiles
            t0 = (task % n_tiles) * TILE
            t1 = min(t0 + TILE, length)
            ak, av, bk, bv, bm = a_keys[g], a_values[g], keys[g], values[g], moments[g]
            bests[g, t0:t1] = _NEVER
            out[g, t0:t1] = np.float32(0.0)
            if not active[g, t0:t1].any():
                continue
            for begin in range(0, t1, SEGMENT):
                squares[:] = np.float32(0.0)
                value_squares[:] = np.float32(0.0)
                for run in range(begin, min(begin + SEGMENT, t1), RUN):
                    for t in range(max(t0, run), t1):
                        if not active[g, t]:
                            continue
                        n = min(RUN, t + 1 - run)
                        add_squares(ak, t, bk, run, n, d_key, squares[t - t0], run - begin)
                        add_squares(
                            av, t, bv, run, n, av.shape[1], value_squares[t - t0], run - begin
                        )
                for t in range(max(t0, begin), t1):
                    if not active[g, t]:
                        continue
                    end = min(begin + SEGMENT, t + 1)
                    full_match(reaches[g, t], energy, full)
                    best = find_best(
                        ak, av, t, t, bk, bv, bm, table, length, begin, end, wanted, temperature,
                        recency, eps, tolerance, full, squares[t - t0], value_squares[t - t0],
                        scores, tops,
                    )  # fmt: skip
                    partial[:] = np.float32(0.0)
                    add_weights(ak, av, t, t, bk, bv, bm, table, length, begin, end, temperature,
                                recency, eps, tolerance, full, tops, best, partial)  # fmt: skip
                    of_all = max(best, bests[g, t])
                    old, new = share(bests[g, t], of_all), share(best, of_all)
                    for i in range(d_value):
                        out[g, t, i] = out[g, t, i] * old + partial[i] * new
                    bests[g, t] = of_all


@jit.kernel
def backward(a_keys, a_values, keys, values, active, reaches, energy, g, bests, temperature,
             recency, eps, tolerance, da_keys, da_values, db_keys, db_values, dt):  # fmt: skip
    """Gradients of `forward`, `bests` taken as constant.

    Args:
        a_keys, a_values, keys, values, active, reaches, energy, bests: as given to `forward` and
            left by it.
        g: gradient of the output, `[G, T, d_value]`.
        temperature, recency, eps: float64.
        da_keys, da_values, db_keys, db_values: as the arrays that they belong to, overwritten.
        dt: `[G]` float64, overwritten: each group's gradient of the temperature.
    """
    n_groups, length, d_value = g.shape
    d_key = keys.shape[2]
    d = d_key + d_value
    speaks = a_values.shape[2] > 0
    for group in jit.prange(n_groups):
        ak, av, bk, bv = a_keys[group], a_values[group], keys[group], values[group]
        dak, dav, dbk, dbv = da_keys[group], da_values[group], db_keys[group], db_values[group]
        dak[:], dav[:], dbk[:], dbv[:] = 0.0, 0.0, 0.0, 0.0
        dt[group] = 0.0
        moments = np.empty((length, 4), np.float32)
        for v in range(length):
            note_moments(bk, bv, v, reaches[group, v], tolerance, moments)
        squares, value_squares = np.empty(SEGMENT, np.float32), np.empty(SEGMENT, np.float32)
        scores, tops = np.empty(SEGMENT, np.float32), np.empty(SEGMENT)
        wanted = np.ones(N_RUNS, np.bool_)
        y, full = np.empty(d_value), new_full(energy)
        table = np.zeros(1, np.int32)
        for t in range(length):
            if not active[group, t]:
                continue
            full_match(reaches[group, t], energy, full)
            for begin in range(0, t + 1, SEGMENT):
                end = min(begin + SEGMENT, t + 1)
                squares[:] = np.float32(0.0)
                value_squares[:] = np.float32(0.0)
                for run in range(begin, end, RUN):
                    n = min(RUN, end - run)
                    add_squares(ak, t, bk, run, n, d_key, squares, run - begin)
                    add_squares(av, t, bv, run, n, av.shape[1], value_squares, run - begin)
                find_best(ak, av, t, t, bk, bv, moments, table, length, begin, end, wanted,
                          temperature, recency, eps, tolerance, full, squares, value_squares,
                          scores, tops)  # fmt: skip
                for j in range(end - begin):
                    if tops[j] < bests[group, t] - _MARGIN:
                        continue
                    v = begin + j
                    mean, deviation, keys_count = _exact(
                        ak, av, t, bk, bv, moments, v, tolerance, full
                    )
                    inv = 1.0 / (deviation + eps)
                    age = _age(recency, t, v) + bests[group, t]
                    total = dot = 0.0
                    for i in range(d_value):
                        u = np.float64(bv[v, i]) - mean
                        if speaks:
                            u += np.float64(av[t, i])
                        y[i] = g[group, t, i] * math.exp(temperature * u * inv - age)
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
                        u = np.float64(ak[t, i]) + np.float64(bk[v, i])
                        change = np.float32(-of_keys - curve * u)
                        dak[t, i] += change
                        dbk[v, i] += change
                    for i in range(d_value):
                        u = np.float64(bv[v, i])
                        if speaks:
                            u += np.float64(av[t, i])
                        change = np.float32(temperature * inv * y[i] - level - curve * u)
                        dbv[v, i] += change
                        if speaks:
                            dav[t, i] += change
