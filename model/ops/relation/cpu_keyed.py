"""The keyed relation on the CPU, compiled by Numba: parts of forward, backward and `extend`.

Each (reader, memory) pair is first scored: an addition and a product for each channel of the keys
give its standard deviation, and with that the exponent of its largest weight, in float32. Only
pairs whose score comes within `MARGIN` of the best one of their segment are worth exponentials;
the others would change no bit of a sum in float32. What these few get is computed in float64, so
that an exponent of a million loses nothing. `cpu_keyed_pieces.py` says which segments are scored at
all.

A segment is `SEGMENT` memories, counted from the start of the sequence. Its pairs are added up in
ascending order relative to its own best exponent; then the segments are put together. The order
depends on nothing else, so `extend` gives the same bits in any batch and any chunking, for any
number of threads.

Common arguments: `keys` `[n_pages, n_blocks, page_size, KEY_BLOCK]` float32, the channels of each
memory in blocks, zeros where the last one has none, so that the first block of many memories is one
stretch to read; `values` `[E, d_value]` float32, one row a memory; and `moments` `[n_pages, 4,
page_size]` float32: the sum of its channels, the sum of the squares of its values, the largest of
its values, and its reach (`causalrn.model.ops.positions`). In pools, keys and values may be
bfloat16 (`model/ops/cpu/bfloat16.py`); moments are of what they hold then. A sequence that is not
in pages lies in one. `a_keys` `[N, n_blocks·KEY_BLOCK]` and `a_values` `[N, d_value]`, what readers
say; `a_values` has no columns where they say nothing of values. `d`, channels of a pair.
`tolerance`, float64: so many times what a full match leaves of the keys (`full_match`) counts as
nothing, and what keys add up to is left out of sums and means; 0 if all that keys leave counts.
`full`, of a reader, as `full_match` leaves it. `wanted` `[N_RUNS]` bool, of a reader and a segment:
which runs of memories are meant; whatever is told of the others, they do not count.
"""

import math

import numpy as np

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.bfloat16 import widened
from causalrn.model.ops.cpu.lanes import (
    add_one_pair_squares,
    add_sixteen_pair_squares,
    double_pair_sums,
    exp2,
    pair_squares,
    row_dot,
    row_sum,
)
from causalrn.model.ops.relation import KEY_BLOCK
from causalrn.model.ops.relation.cpu_keyed_lanes import best_share, exponents, least

SEGMENT = 512  # memories whose pairs are added up relative to one exponent
RUN = 16  # memories that lie side by side in a page
N_RUNS = SEGMENT // RUN
TILE = 8  # readers that share a run of memories
MARGIN = 64.0  # below the best exponent by more than this, a weight is less than 2^-92 of it
_SLACK = 1e-5  # of an exponent, for what a score in float32 may be off
_ULP = 6e-8  # by which a float32 may be off, as a share of it
_FAINT = 1e-12  # of the energy of a token: what older ones than that leave is taken for nothing
_LOG2E = 1.4426950408889634
_LEAST = np.float32(-126.0)  # exponents of 2 below this have no normal float32
MAX_MEAN = np.float32(4.0)  # as in `cpu.py`: above, E[u²] - E[u]² loses too much
_NEVER = -np.inf
_ZERO, _INFINITE = np.float32(0.0), np.float32(np.inf)


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
def note_moments(own_keys, own_values, reach, tolerance, moments, page, place):
    """Write the moments of one memory, given its channels."""
    moments[page, 3, place] = reach
    total = np.float32(row_sum(own_values, 0))
    if tolerance == 0.0:
        total += row_sum(own_keys, 0)
    moments[page, 0, place] = total
    moments[page, 1, place] = row_dot(own_values, own_values, 0.0)
    largest = own_values[0]
    for i in range(1, own_values.shape[0]):
        largest = max(largest, own_values[i])
    moments[page, 2, place] = largest


@jit.inline
def gather(keys, page, place, out):
    """Write the channels of one memory side by side to `out` `[1, n_blocks·KEY_BLOCK]`."""
    for block in range(keys.shape[1]):
        for i in range(KEY_BLOCK):
            out[0, block * KEY_BLOCK + i] = widened(keys[page, block, place, i])


@jit.inline
def largest_value(a_values, row, values, page_size, moments, page, place):
    """The largest value channel of a pair, in float64."""
    if not a_values.shape[1]:
        return np.float64(moments[page, 2, place])
    largest, v = _NEVER, page * page_size + place
    for i in range(values.shape[1]):
        u = np.float64(a_values[row, i]) + np.float64(widened(values[v, i]))
        largest = max(largest, u)
    return largest


@jit.inline
def exact(
    a_keys, a_values, row, keys, values, moments, page, place, d, tolerance, full, own
):  # fmt: skip
    """Mean and standard deviation of a pair, added up in float64, and whether its keys count.

    Args:
        own: `[1, n_blocks·KEY_BLOCK]`, written: the keys of the memory.
    """
    gather(keys, page, place, own)
    total, squares = double_pair_sums(a_keys, row, own, 0)
    if tolerance > 0.0:
        reach = min(moments[page, 3, place], np.float32(full.shape[0] - 1))
        total, squares = 0.0, squares - tolerance * full[np.uintp(reach)]
    keys_count = squares > 0.0
    squares = max(squares, 0.0)
    v = page * keys.shape[2] + place
    if a_values.shape[1]:
        more, more_squares = double_pair_sums(a_values, row, values, v)
    else:
        more, more_squares = row_sum(values, v), row_dot(values[v], values[v], 0.0)
    mean = (total + more) / d
    return mean, math.sqrt(max(0.0, (squares + more_squares) / d - mean * mean)), keys_count


@jit.inline
def add_value_squares(a, row, b, first, n, squares, at):
    """Add the squares of the values of n pairs, one run, to `squares` from `at`."""
    if a.shape[1] == 0:
        return
    if n == RUN:
        add_sixteen_pair_squares(a, row, b, first, a.shape[1], squares, at)
        return
    for j in range(n):
        add_one_pair_squares(a, row, b, first + j, a.shape[1], squares, at + j)


@jit.inline
def note_squares(a, row, keys, page, place, n_blocks, squares, at):
    """Write the squares of the first blocks of keys of a run's pairs to `squares` from `at`.

    It lies in a page from `place` on. Of memories that are not there yet, anything is written.
    """
    first = page * keys.shape[1] * keys.shape[2] + place
    pair_squares(a, row, keys, first, keys.shape[2], n_blocks, squares, at)


@jit.inline
def score(a_keys, a_values, row, values, moments, table, page_size, begin, end, wanted, d,
          temperature, eps, tolerance, full, of_full, squares, value_squares, scores):  # fmt: skip
    """Score the pairs of one reader with one segment: the exponents of their largest weights.

    Args:
        row: of the reader in `a_keys` and `a_values`.
        table, page_size: of the sequence's pages.
        begin, end: the segment's memories.
        temperature, eps: float64.
        of_full: `[RUN]` float32 scratch.
        squares, value_squares: `[SEGMENT]`, as `note_squares` and `add_value_squares` leave them.
            With those of some keys only, scores are bounds: no exponent is larger, but for those
            below 0.
        scores: `[SEGMENT]` float32, written; infinite where float32 cannot tell. With a tolerance,
            scores are bounds, too: what keys leave is rounded down.
    """
    speaks, tolerates = a_values.shape[1] > 0, tolerance > 0.0
    total = np.float32(row_sum(a_values, row)) if speaks else np.float32(0.0)
    if not tolerates:
        total += np.float32(row_sum(a_keys, row))
    inv_d, off = np.float32(1.0 / d), (a_keys.shape[1] + 4) * _ULP
    down = np.float32(1.0 - off if tolerates else 1.0)
    tolerated = np.float32(tolerance * (1.0 + off))
    tau, extra = np.float32(temperature), np.float32(eps)
    numbers = (total, inv_d, down, tolerated, tau, extra, MAX_MEAN, _INFINITE, _ZERO)
    of_full[:] = _ZERO
    # No parts of arrays in this loop: each would be counted as another user of its memory.
    for run in range(begin, end, RUN):
        if not wanted[(run - begin) // RUN]:
            continue
        at, page, place = run - begin, table[run // page_size], run % page_size
        n = min(RUN, end - run)
        if tolerates:
            note_full(full, moments, page, place, n, of_full)
        if not speaks:
            first = page * 4 * page_size + place
            exponents(squares, at, of_full, moments, first, page_size, scores, numbers)
            continue
        for j in range(n):
            top = largest_value(a_values, row, values, page_size, moments, page, place + j)
            mean = (total + moments[page, 0, place + j]) * inv_d
            kept = max(squares[at + j] * down - tolerated * of_full[j], _ZERO)
            variance = (kept + value_squares[at + j]) * inv_d - mean * mean
            exponent = tau * (np.float32(top) - mean) / (math.sqrt(variance) + extra)
            is_told = mean * mean <= MAX_MEAN * variance
            scores[at + j] = exponent if is_told else _INFINITE


@jit.inline
def note_full(full, moments, page, place, n, of_full):
    """Write what full matches with n memories from `place` of a page on would leave of the keys.

    Args:
        of_full: `[RUN]` float32, written; zeros for memories that are not there.
    """
    last = full.shape[0] - 1
    if n == RUN and least(moments, (page * 4 + 3) * moments.shape[2] + place) >= last:
        of_full[:] = full[last]  # as nearly everywhere
        return
    for j in range(n):
        of_full[j] = full[np.uintp(min(moments[page, 3, place + j], np.float32(last)))]
    for j in range(n, RUN):
        of_full[j] = _ZERO


@jit.inline
def best_match(full, moments, table, page_size, begin, end, wanted, squares, of_full):
    """The best match in a segment, 1 at most: what a full one leaves, by what a pair left.

    Args:
        full: of the reader; empty if nobody asks, and the match is 0 then.
        moments, table, page_size, begin, end: as for `score`.
        squares: `[SEGMENT]`, as `note_squares` leaves them. With those of some keys only, the match
            is a bound: no pair matches better.
        of_full: `[RUN]` float32 scratch.
    """
    match = np.float32(0.0)
    if not full.shape[0]:
        return match
    for run in range(begin, end, RUN):
        if wanted[(run - begin) // RUN]:
            page, place, n = table[run // page_size], run % page_size, min(RUN, end - run)
            note_full(full, moments, page, place, n, of_full)
            match = max(match, best_share(of_full, squares, run - begin, _ZERO))
    return match


@jit.inline
def age(recency, t, v):
    """What is taken off the exponent of the v-th memory for a reader at place t."""
    return recency * math.log1p(np.float64(t - v)) if recency > 0.0 else 0.0


@jit.inline
def find_best(a_keys, a_values, row, t, keys, values, moments, table, begin, end, wanted, d,
              temperature, recency, eps, tolerance, full, of_full, squares, value_squares, scores,
              pairs, own):  # fmt: skip
    """Do the best pairs of one reader with one segment in float64.

    Args:
        t: place of the reader in its sequence, from 0.
        temperature, recency, eps: float64.
        squares, value_squares: of all channels.
        scores: `[SEGMENT]` float32 scratch.
        pairs: `[3, SEGMENT]` float64, written for wanted runs: the exponent of a pair's largest
            weight, or -inf for pairs that are not worth exponentials; for the others, mean and
            standard deviation.
        own: as for `exact`.
        The others are as for `score`.

    Returns:
        The largest of these exponents.
    """
    page_size = keys.shape[2]
    score(a_keys, a_values, row, values, moments, table, page_size, begin, end, wanted, d,
          temperature, eps, tolerance, full, of_full, squares, value_squares,
          scores)  # fmt: skip
    best = _NEVER
    for number in range((end - begin - 1) // RUN, -1, -1):  # youngest first: age takes least off
        if not wanted[number]:
            continue
        for j in range(min(end - begin, (number + 1) * RUN) - 1, number * RUN - 1, -1):
            pairs[0, j] = _NEVER
            if outweighed(scores[j], best):
                continue
            older = age(recency, t, begin + j)
            if outweighed(scores[j], best + older):
                continue
            page, place = table[(begin + j) // page_size], (begin + j) % page_size
            mean, deviation, _ = exact(
                a_keys, a_values, row, keys, values, moments, page, place, d, tolerance, full, own
            )
            largest = largest_value(a_values, row, values, page_size, moments, page, place)
            top = temperature * ((largest - mean) / (deviation + eps)) - older
            pairs[0, j], pairs[1, j], pairs[2, j] = top, mean, deviation
            best = max(best, top)
    return best


@jit.inline
def outweighed(score, best):
    """Whether an exponent of that score or less is too far below the best one to count."""
    return score < best - MARGIN - _SLACK * abs(np.float64(score))


@jit.inline
def add_weights(a_values, row, t, values, page_size, table, begin, end, wanted, temperature,
                recency, eps, pairs, best, out):  # fmt: skip
    """out += the weights of the pairs of one reader with one segment, relative to `best`.

    Args:
        page_size, table, wanted: as for `score`.
        pairs, best: as `find_best` leaves them.
        out: `[d_value]` float32.
        The others are as for `find_best`.
    """
    speaks = a_values.shape[1] > 0
    for number in range((end - begin + RUN - 1) // RUN):
        if not wanted[number]:
            continue
        for j in range(number * RUN, min(end - begin, (number + 1) * RUN)):
            if pairs[0, j] < best - MARGIN:
                continue
            v = table[(begin + j) // page_size] * page_size + (begin + j) % page_size
            scale = temperature / (pairs[2, j] + eps) * _LOG2E
            shift = pairs[1, j] * scale + (best + age(recency, t, begin + j)) * _LOG2E
            if speaks:
                for i in range(values.shape[1]):
                    u = np.float64(widened(values[v, i])) + np.float64(a_values[row, i])
                    out[i] += exp2(max(np.float32(u * scale - shift), _LEAST))
            else:
                for i in range(values.shape[1]):
                    y = np.float32(np.float64(widened(values[v, i])) * scale - shift)
                    out[i] += exp2(max(y, _LEAST))


@jit.inline
def share(best, of_all):
    """By what a segment's weights are multiplied to be relative to the best of all segments."""
    return np.float32(math.exp(best - of_all)) if best >= of_all - MARGIN else np.float32(0.0)
