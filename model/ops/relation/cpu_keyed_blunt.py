"""The keyed relation on the CPU where it is blunt: nearly all pairs count, and none by much.

Where exponents are small, float32 keeps what counts of them. So pairs are done by vectors, as those
of the normalized relation are in `cpu.py`: sixteen are scored at a time, and the mean enters as a
factor of the table of exponentials. Pairs that float32 cannot tell are done in float64; that is a
matter of the pair alone.

A segment's weights are added up in ascending order relative to 1, with partial sums that are closed
every `BLOCK` memories counted from the start of the sequence, and the sum is then put relative to
the segment's best exponent. Segments and arguments are those of `cpu_keyed.py` and
`cpu_keyed_pieces.py`.
"""

import math

import numpy as np

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.bfloat16 import widened
from causalrn.model.ops.cpu.lanes import exp2, pair_squares, row_sum
from causalrn.model.ops.relation import KEY_BLOCK
from causalrn.model.ops.relation.cpu import BLOCK, aligned
from causalrn.model.ops.relation.cpu_keyed import (
    MAX_MEAN,
    N_RUNS,
    RUN,
    SEGMENT,
    TILE,
    exact,
    largest_value,
)
from causalrn.model.ops.relation.cpu_keyed_blunt_lanes import (
    add_four_silent_exponentials,
    add_one_silent_exponential,
    add_sixteen_silent_exponentials,
    add_three_silent_exponentials,
    add_two_silent_exponentials,
    fetch,
    largest_of_pairs,
    score_sixteen_blunt,
)
from causalrn.model.ops.relation.cpu_lanes import (
    add_four_exponentials,
    add_one_exponential,
    add_three_exponentials,
    add_two_exponentials,
)

MOST_BLUNT = 32.0  # nats: exponents up to this are the normalized relation's with 900 channels
_LOG2E = 1.4426950408889634
_TINY = 1e-30  # variances below have squares that float32 has no normal numbers for
_NEVER = -np.inf
_ZERO = np.float32(0.0)
_STRIDE = TILE * SEGMENT  # from a pair's scale to its factor


def is_blunt(temperature: float, recency: float, tolerance: float, d: int) -> bool:
    """Whether float32 does for the exponents of a relation.

    A pair that float32 can tell has a mean of at most 2 deviations, so none of its channels is
    larger than `sqrt(d - 1) + 2` deviations.
    """
    largest = temperature * (math.sqrt(d - 1.0) + math.sqrt(MAX_MEAN))
    return recency == 0.0 and tolerance == 0.0 and 0.0 <= largest <= MOST_BLUNT


compiled_is_blunt = jit.inline(is_blunt)


@jit.inline
def new_blunt(needed, d_value):
    """Scratch for a tile of readers and a segment; next to nothing if it is not needed.

    Returns:
        Scales, then factors, `[2·TILE, SEGMENT]`; bits of the pairs that are done in float64,
        `[TILE, N_RUNS]` int64; partial sums, then sums, `[2·TILE, d_value]`; sums of readers'
        channels, `[TILE]` float64; and `[RUN]`.
    """
    n = TILE if needed else 0
    pairs = aligned(2 * n, SEGMENT)
    return (
        pairs, np.empty((n, N_RUNS), np.int64), aligned(2 * n, d_value), np.empty(n),
        np.empty(RUN, np.float32),
    )  # fmt: skip


@jit.inline
def add_blunt(rows, held, base, a_keys, a_values, keys, values, moments, table, d, temperature, eps,
              full, squares, value_squares, own, pairs, unsure, sums, totals, tops, bests,
              partials):  # fmt: skip
    """Add up the weights of the pairs of a piece.

    Args:
        squares: `[TILE, SEGMENT]`, written: squares of the keys.
        value_squares: of the values, if readers are not silent on them.
        pairs, unsure, sums, totals, tops: as of `new_blunt`, overwritten.
        bests: `[len(rows)]` float64, written for rows that see the segment: the largest exponent.
        partials: `[len(rows), d_value]`, written for these, too: the sums of the weights relative
            to the best.
        The others are as for `exact`, and for a piece.
    """
    page_size, n_blocks, d_value = keys.shape[2], keys.shape[1], values.shape[1]
    speaks, inv_d = a_values.shape[1] > 0, np.float32(1.0 / d)
    tau, extra = np.float32(temperature * _LOG2E), np.float32(eps)
    n_rows, end = rows.shape[0], min(base + SEGMENT, held + rows[-1] + 1)
    n_runs = (end - base + RUN - 1) // RUN
    for i in range(n_rows):
        totals[i] = row_sum(a_keys, rows[i])
        if speaks:
            totals[i] += row_sum(a_values, rows[i])
        if held + rows[i] >= base:
            bests[i] = _NEVER
        for c in range(d_value):
            sums[i, c], sums[TILE + i, c] = _ZERO, _ZERO
    page = place = page_before = place_before = np.int64(0)
    # A run is scored one ahead: roots and divisions take their time.
    # Only what is rare is a call: to hand over all the arrays takes as long as some pairs.
    for n_begun in range(n_runs + 1):
        at = n_begun * RUN
        run = base + at
        if n_begun < n_runs:
            page, place = np.int64(table[run // page_size]), run % page_size
            first_key, first = page * n_blocks * page_size + place, page * 4 * page_size + place
            for i in range(n_rows):
                n, of_pair = min(RUN, held + rows[i] + 1 - run), i * SEGMENT + at
                if n <= 0:
                    continue
                pair_squares(
                    a_keys, rows[i], keys, first_key, page_size, n_blocks, squares, of_pair
                )
                numbers = (
                    np.float32(totals[i]), inv_d, tau, extra, np.float32(MAX_MEAN),
                    np.float32(_TINY),
                )  # fmt: skip
                if speaks:
                    largest_of_pairs(a_values, rows[i], values, page * page_size + place, tops)
                    bits, top = score_sixteen_blunt(
                        squares, of_pair, moments, first, value_squares, of_pair, tops, 0, n,
                        numbers, pairs, of_pair, _STRIDE,
                    )  # fmt: skip
                else:
                    bits, top = score_sixteen_blunt(
                        squares, of_pair, moments, first, moments, first + page_size, moments,
                        first + 2 * page_size, n, numbers, pairs, of_pair, _STRIDE,
                    )  # fmt: skip
                bits &= (1 << n) - 1
                unsure[i, n_begun] = bits
                bests[i] = max(bests[i], np.float64(top) / _LOG2E)
                if bits:
                    bests[i] = max(bests[i], _best_unsure(
                        bits, rows[i], a_keys, a_values, keys, values, moments, page, place, d,
                        temperature, eps, full, own,
                    ))  # fmt: skip
        if n_begun > 0:
            before = page_before * page_size + place_before
            ahead = run + RUN  # what is scored next; its keys lie far from each other
            if ahead < end:
                next_page, next_place = np.int64(table[ahead // page_size]), ahead % page_size
                for block in range(n_blocks):
                    of_block = (next_page * n_blocks + block) * page_size + next_place
                    fetch(keys, of_block * KEY_BLOCK, RUN)
                fetch(values, (next_page * page_size + next_place) * d_value, d_value)
            for i in range(n_rows):
                n, of_pair = min(RUN, held + rows[i] + 1 - run + RUN), i * SEGMENT + at - RUN
                if n <= 0:
                    continue
                if n == RUN and unsure[i, n_begun - 1] == 0:
                    if speaks:
                        for j in range(0, RUN, 4):
                            add_four_exponentials(
                                a_values, rows[i], values, before + j, pairs, of_pair + j, _STRIDE,
                                sums, i,
                            )  # fmt: skip
                    else:
                        add_sixteen_silent_exponentials(
                            values, before, pairs, of_pair, _STRIDE, sums, i
                        )
                else:
                    _add_some(
                        unsure[i, n_begun - 1], rows[i], i, of_pair, n, a_keys, a_values, keys,
                        values, moments, page_before, place_before, d, temperature, eps, full, own,
                        pairs, sums,
                    )  # fmt: skip
            if run % BLOCK == 0 or n_begun == n_runs:
                for i in range(n_rows):
                    for c in range(d_value):
                        sums[TILE + i, c] += sums[i, c]
                        sums[i, c] = _ZERO
        page_before, place_before = page, place
    for i in range(n_rows):
        if held + rows[i] >= base:
            weight = np.float32(math.exp(-bests[i]))
            for c in range(d_value):
                partials[i, c] = sums[TILE + i, c] * weight


@jit.inline
def _best_unsure(bits, row, a_keys, a_values, keys, values, moments, page, place, d, temperature,
                 eps, full, own):  # fmt: skip
    """The largest exponent of those pairs of a run that float32 cannot tell."""
    best = _NEVER
    for j in range(RUN):
        if (bits >> j) & 1:
            mean, deviation, _ = exact(
                a_keys, a_values, row, keys, values, moments, page, place + j, d, 0.0, full, own
            )
            largest = largest_value(a_values, row, values, keys.shape[2], moments, page, place + j)
            best = max(best, temperature * ((largest - mean) / (deviation + eps)))
    return best


@jit.inline
def _add_some(bits, row, into, at, n, a_keys, a_values, keys, values, moments, page, place, d,
              temperature, eps, full, own, pairs, sums):  # fmt: skip
    """Add the first n pairs of a run, of which some may have to be done in float64."""
    first = page * keys.shape[2] + place
    if bits == 0:
        _add_sure(a_values, row, values, first, n, pairs, at, sums, into)
        return
    for j in range(n):
        if (bits >> j) & 1:
            mean, deviation, _ = exact(
                a_keys, a_values, row, keys, values, moments, page, place + j, d, 0.0, full, own
            )
            scale = temperature / (deviation + eps) * _LOG2E
            _add_exact(a_values, row, values, first + j, mean, scale, sums, into)
        else:
            _add_sure(a_values, row, values, first + j, 1, pairs, at + j, sums, into)


@jit.inline
def _add_sure(a, row, values, first, n, pairs, at, sums, into):
    """Add n pairs, 16 at most, that float32 can tell."""
    whole = n // 4 * 4
    if a.shape[1]:
        for j in range(0, whole, 4):
            add_four_exponentials(
                a, row, values, first + j, pairs, at + j, _STRIDE, sums, into
            )  # fmt: skip
        v, of_pair = first + whole, at + whole
        if n - whole == 3:
            add_three_exponentials(a, row, values, v, pairs, of_pair, _STRIDE, sums, into)
        elif n - whole == 2:
            add_two_exponentials(a, row, values, v, pairs, of_pair, _STRIDE, sums, into)
        elif n - whole == 1:
            add_one_exponential(a, row, values, v, pairs, of_pair, _STRIDE, sums, into)
        return
    for j in range(0, whole, 4):
        add_four_silent_exponentials(values, first + j, pairs, at + j, _STRIDE, sums, into)
    v, of_pair = first + whole, at + whole
    if n - whole == 3:
        add_three_silent_exponentials(values, v, pairs, of_pair, _STRIDE, sums, into)
    elif n - whole == 2:
        add_two_silent_exponentials(values, v, pairs, of_pair, _STRIDE, sums, into)
    elif n - whole == 1:
        add_one_silent_exponential(values, v, pairs, of_pair, _STRIDE, sums, into)


@jit.inline
def _add_exact(a, row, values, v, mean, scale, sums, into):
    """Add a pair that float32 cannot tell, given its mean and scale in float64."""
    speaks = a.shape[1] > 0
    for c in range(values.shape[1]):
        u = np.float64(widened(values[v, c])) - mean
        if speaks:
            u += np.float64(a[row, c])
        sums[into, c] += exp2(np.float32(u * scale))
