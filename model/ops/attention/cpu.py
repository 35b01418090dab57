"""Attention on the CPU: parts of a ragged `extend`, compiled by Numba.

A reader scores the memories of a segment, and adds their values up in ascending order, with weights
relative to the largest of them; then segments are put together, in ascending order, too. The order
depends on nothing but a reader's place, so it gets the same bits in any batch, any chunking, any
pages and on any number of threads.

All arrays are C-contiguous float32 unless said otherwise. `projected` `[N, 3·R]` has queries, keys
and values of the new rows, each head by head; `keys` and `values` are pools `[n_pages, H,
page_size, K]`.
"""

import math

import numpy as np

from causalrn.model.ops.attention import LEAST
from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.lanes import exp2, row_dot
from causalrn.model.ops.relation.cpu import SEGMENT

_LOG2E = 1.4426950408889634
_F0 = np.float32(0.0)
_F1 = np.float32(1.0)
_LEAST_POWER = np.float32(-126.0)  # `exp2` takes exponents of either sign up to here
_LEAST = np.float32(LEAST)


@jit.inline
def power(y):
    """2^y; for what is too small for a normal number, the smallest one."""
    return exp2(max(y, _LEAST_POWER))


@jit.inline
def remember(projected, n, place, table, keys, values):
    """Write the key and the value of a row to its sequence's page."""
    n_heads, page_size, k = keys.shape[1:]
    page, inside = np.int64(table[place // page_size]), place % page_size
    r = n_heads * k
    for h in range(n_heads):
        for i in range(k):
            keys[page, h, inside, i] = projected[n, r + h * k + i]
            values[page, h, inside, i] = projected[n, 2 * r + h * k + i]


@jit.inline
def rotate(projected, n, n_heads, place, turns, turn):
    """Turn the queries and keys of a row by its place.

    That rotation is the product of those by the powers of 2 that the place is the sum of: it takes
    no cosines, whose bits would be the library's that computes them.

    Args:
        projected, n: overwritten, and the row.
        place: of its token in its sequence.
        turns: `[B, 2, K/2]` float64, cosines and sines of rotations by 2^b places, 2^B > place.
        turn: `[2, K/2]` float64, scratch.
    """
    half = turns.shape[2]
    for i in range(half):
        turn[0, i], turn[1, i] = 1.0, 0.0
    bit = 0
    while place >> bit:
        if place >> bit & 1:
            for i in range(half):
                cos, sin = turn[0, i], turn[1, i]
                turn[0, i] = cos * turns[bit, 0, i] - sin * turns[bit, 1, i]
                turn[1, i] = sin * turns[bit, 0, i] + cos * turns[bit, 1, i]
        bit += 1
    for h in range(2 * n_heads):  # of queries, then of keys
        first = projected[n, 2 * h * half : (2 * h + 1) * half]
        second = projected[n, (2 * h + 1) * half : (2 * h + 2) * half]
        for i in range(half):
            x, y = first[i], second[i]
            first[i] = np.float32(x * turn[0, i] - y * turn[1, i])
            second[i] = np.float32(y * turn[0, i] + x * turn[1, i])


@jit.inline
def first_seen(n_seen, window):
    """The first that a head sees of the `n_seen` memories up to a reader; 0 is no window."""
    return max(n_seen - window, 0) if window else 0


@jit.inline
def score(query, key):
    """The base-2 logarithm of a weight, in float64: `log2(e) · (query · key) / sqrt(K)`."""
    return row_dot(query, key, 0.0) * (_LOG2E / math.sqrt(query.shape[0]))


@jit.inline
def read_segment(projected, n, h, table, keys, values, begin, end, scores, partials):
    """Add up the values of memories `begin` to `end - 1` of one segment, for one reader and head.

    Args:
        projected, n, h: the reader's row, and the head.
        table: `[M]` int32, pages of the sequence in order.
        scores: `[SEGMENT]` float64, scratch.
        partials: `[n_segments, N, R + 2·H]`, written: sums of values, with weights relative to the
            largest, then of each head its logarithm, and the sum of weights.
    """
    n_heads, page_size, k = keys.shape[1:]
    segment, r = begin // SEGMENT, n_heads * k
    query, out = projected[n, h * k : (h + 1) * k], partials[segment, n, h * k : (h + 1) * k]
    largest = -np.inf
    for v in range(begin, end):
        page = np.int64(table[v // page_size])
        found = score(query, keys[page, h, v % page_size])
        scores[v - begin] = found
        largest = max(largest, found)
    best = np.float32(largest)
    total = _F0
    for i in range(k):
        out[i] = _F0
    for v in range(begin, end):
        page, inside = np.int64(table[v // page_size]), v % page_size
        weight = power(np.float32(scores[v - begin] - best))
        total += weight
        for i in range(k):
            out[i] += weight * values[page, h, inside, i]
    partials[segment, n, r + 2 * h] = best
    partials[segment, n, r + 2 * h + 1] = total


@jit.inline
def combine(n, n_seen, n_heads, partials, out):
    """Put the segments of a row together, into its mean over the values that it sees.

    Args:
        n, n_seen: the row, and the memories that it sees, its own included.
        partials: as `read_segment` leaves them.
        out: `[N, R]`, the row overwritten.
    """
    for h in range(n_heads):
        combine_head(n, h, 0, n_seen, n_heads, partials, out)


@jit.inline
def combine_head(n, h, first, n_seen, n_heads, partials, out):
    """The same for one head, which sees memories `first` to `n_seen - 1`."""
    r = out.shape[1]
    k, begin, end = r // n_heads, first // SEGMENT, (n_seen + SEGMENT - 1) // SEGMENT
    best = np.float32(-np.inf)
    for segment in range(begin, end):
        best = max(best, partials[segment, n, r + 2 * h])
    total = _F0
    for i in range(k):
        out[n, h * k + i] = _F0
    for segment in range(begin, end):
        weight = power(partials[segment, n, r + 2 * h] - best)
        total += weight * partials[segment, n, r + 2 * h + 1]
        for i in range(k):
            out[n, h * k + i] += weight * partials[segment, n, h * k + i]
    for i in range(k):
        out[n, h * k + i] /= total


@jit.inline
def feature(x):
    """`elu(x) + 1`."""
    if x > _F0:
        return x + _F1
    return power(x * np.float32(_LOG2E))


@jit.inline
def accumulate(projected, n, h, sums, out):
    """Add one token to a sequence's sums of one head, and read them.

    Args:
        projected, n, h: the token's row, and the head.
        sums: `[K, K + 1]`, of keys times values, and of keys; updated in place.
        out: `[N, R]`, the head's channels of the row written.
    """
    k, r = sums.shape[0], out.shape[1]
    mean, weight = out[n, h * k : (h + 1) * k], _F0
    value = projected[n, 2 * r + h * k : 2 * r + (h + 1) * k]
    for i in range(k):
        mean[i] = _F0
    for i in range(k):
        key = feature(projected[n, r + h * k + i])
        query = feature(projected[n, h * k + i])
        for j in range(k):
            sums[i, j] += key * value[j]
            mean[j] += query * sums[i, j]
        sums[i, k] += key
        weight += query * sums[i, k]
    for j in range(k):
        mean[j] /= weight + _LEAST
