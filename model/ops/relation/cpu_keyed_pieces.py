"""Pieces of the keyed relation's work on pools, compiled by Numba: some readers, one segment.

A piece has up to `TILE` active readers of one sequence and up to `SEGMENT` of its memories. It may
be looked at before it is read. A look takes only the first `HEAD` keys, a fraction of what a read
takes from memory, and tells what the piece can come to at most; the keys that it leaves out can
only lower that. Where this is too little beside the best that has been read, there is nothing to
read: its weights are zeros in float32.

Common arguments: `rows`, of the readers in `a_keys` and `a_values`, ascending; `held`, the place of
a row in its sequence, less the row; `base`, the segment's first memory; `wanted`, bool, for each of
the rows; `keys`, `values` and `moments`, of all pages; `table`, the sequence's pages; `reaches`, of
all rows; `temperature`, `recency` and `eps` float64; `tolerance` and `energy` as in `cpu_keyed.py`.
"""

import numpy as np

from model.ops.cpu import jit
from model.ops.relation.cpu_keyed import (
    RUN,
    SEGMENT,
    TILE,
    add_squares,
    add_weights,
    best_match,
    find_best,
    full_match,
    new_full,
    score,
)

HEAD = 16  # keys that a look takes


@jit.inline
def cut(order, owners, context_lens, starts, first, n_rows):
    """The pieces of some active rows, `[n_pieces, 3]`: first row, the one after the last, segment.

    Args:
        order: active rows, by sequence and place.
        owners: their sequences.
        context_lens, starts: of the sequences.
        first, n_rows: which of the active rows.
    """
    n_pieces = 0
    for counted in range(2):  # then written
        pieces = np.empty((n_pieces, 3), np.int64)
        n_pieces = 0
        low = first
        while low < first + n_rows:
            s, high = owners[low], low
            while high < min(low + TILE, first + n_rows) and owners[high] == s:
                high += 1
            n_seen = context_lens[s] + order[high - 1] - starts[s] + 1
            for segment in range((n_seen + SEGMENT - 1) // SEGMENT):
                if counted:
                    pieces[n_pieces] = low, high, segment
                n_pieces += 1
            low = high
    return pieces


@jit.inline
def _squares(rows, held, base, wanted, a, b, width, table, page_size):
    """Squares of the first `width` channels of wanted readers' pairs, `[len(rows), SEGMENT]`."""
    squares = np.zeros((rows.shape[0], SEGMENT), np.float32)
    most = held + rows[-1] + 1
    for run in range(base, min(base + SEGMENT, most), RUN):
        first = table[run // page_size] * page_size + run % page_size
        for i in range(rows.shape[0]):
            n_seen = held + rows[i] + 1
            if wanted[i] and n_seen > run:
                n = min(RUN, n_seen - run)
                add_squares(a, rows[i], b, first, n, width, squares[i], run - base)
    return squares


@jit.inline
def look(rows, held, base, wanted, a_keys, a_values, keys, values, moments, table, page_size,
         reaches, energy, temperature, eps, tolerance, scores, matches):  # fmt: skip
    """What a piece can come to at most. Readers must be silent on values.

    Args:
        scores, matches: `[len(rows)]` float32, written for wanted readers that see the segment: the
            largest score, at least 0, and the best match.
    """
    squares = _squares(rows, held, base, wanted, a_keys, keys, HEAD, table, page_size)
    of_pairs, full = np.empty(SEGMENT, np.float32), new_full(energy)
    d = keys.shape[1] + values.shape[1]
    for i in range(rows.shape[0]):
        end = min(base + SEGMENT, held + rows[i] + 1)
        if not wanted[i] or end <= base:
            continue
        full_match(reaches[rows[i]], energy, full)
        score(a_keys, a_values, rows[i], values, moments, table, page_size, base, end, d,
              temperature, eps, tolerance, full, squares[i], squares[i], of_pairs)  # fmt: skip
        largest = np.float32(0.0)  # what is left out may bring exponents below 0 nearer to it
        for j in range(end - base):
            largest = max(largest, of_pairs[j])
        scores[i] = largest
        matches[i] = best_match(full, moments, table, page_size, base, end, squares[i])


@jit.inline
def read(rows, held, base, wanted, a_keys, a_values, keys, values, moments, table, page_size,
         reaches, energy, temperature, recency, eps, tolerance, bests, matches,
         partials):  # fmt: skip
    """Add up the weights of a piece.

    Args:
        bests: `[len(rows)]` float64, written for wanted readers that see the segment, as are the
            next two: the largest exponent.
        matches: `[len(rows)]` float32, the best match.
        partials: `[len(rows), d_value]`, the sums of the weights relative to the best.
    """
    n_spoken = a_values.shape[1]
    squares = _squares(rows, held, base, wanted, a_keys, keys, keys.shape[1], table, page_size)
    value_squares = squares
    if n_spoken:
        value_squares = _squares(
            rows, held, base, wanted, a_values, values, n_spoken, table, page_size
        )
    scores, tops = np.empty(SEGMENT, np.float32), np.empty(SEGMENT)
    full = new_full(energy)
    for i in range(rows.shape[0]):
        n, t = rows[i], held + rows[i]
        end = min(base + SEGMENT, t + 1)
        if not wanted[i] or end <= base:
            continue
        full_match(reaches[n], energy, full)
        bests[i] = find_best(
            a_keys, a_values, n, t, keys, values, moments, table, page_size, base, end,
            temperature, recency, eps, tolerance, full, squares[i], value_squares[i], scores, tops,
        )  # fmt: skip
        partials[i] = np.float32(0.0)
        add_weights(a_keys, a_values, n, t, keys, values, moments, table, page_size, base, end,
                    temperature, recency, eps, tolerance, full, tops, bests[i],
                    partials[i])  # fmt: skip
        matches[i] = best_match(full, moments, table, page_size, base, end, squares[i])
