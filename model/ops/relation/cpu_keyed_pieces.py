"""Pieces of the keyed relation's work on pools, compiled by Numba: some readers, one segment.

A piece has up to `TILE` active readers of one sequence and up to `SEGMENT` of its memories. It may
be looked at before it is read. A look takes only the first `HEAD` keys, a fraction of what a read
takes from memory, and tells what each run of memories can come to at most; the keys that it leaves
out can only lower that. Where this is too little beside the best that has been read, there is
nothing to read: the weights are zeros in float32.

Common arguments: `rows`, of the readers in `a_keys` and `a_values`, ascending; `held`, the place of
a row in its sequence, less the row; `base`, the segment's first memory; `wanted` `[len(rows),
N_RUNS]` bool, the runs that a row is to see; `keys`, `values` and `moments`, of all pages; `table`,
the sequence's pages; `reaches`, of all rows; `temperature`, `recency` and `eps` float64; `d`,
`tolerance` and `energy` as in `cpu_keyed.py`. `squares` and `value_squares` `[TILE, SEGMENT]`,
`of_pairs` `[SEGMENT]` and `of_full` `[RUN]` float32, `pairs` (`find_best`), `full` (`new_full`) and
`own` (`exact`) are scratch.
"""

import numpy as np

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.relation import KEY_BLOCK
from causalrn.model.ops.relation.cpu_keyed import (
    N_RUNS,
    RUN,
    SEGMENT,
    TILE,
    add_value_squares,
    add_weights,
    best_match,
    find_best,
    full_match,
    note_full,
    note_squares,
    outweighed,
    score,
    share,
)
from causalrn.model.ops.relation.cpu_keyed_blunt import add_blunt
from causalrn.model.ops.relation.cpu_keyed_lanes import best_share, largest

HEAD = KEY_BLOCK  # keys that a look takes: the first block, which lies in one stretch
_ZERO = np.float32(0.0)


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
def _note_squares(rows, held, base, wanted, a, keys, n_blocks, table, squares):
    """Write the squares of the first blocks of keys of wanted pairs."""
    most, page_size = held + rows[-1] + 1, keys.shape[2]
    for run in range(base, min(base + SEGMENT, most), RUN):
        page, place, at = table[run // page_size], run % page_size, run - base
        for i in range(rows.shape[0]):
            if wanted[i, at // RUN] and held + rows[i] >= run:
                note_squares(a, rows[i], keys, page, place, n_blocks, squares, i * SEGMENT + at)


@jit.inline
def _note_value_squares(rows, held, base, wanted, a, values, table, page_size, squares):
    """Write the squares of the values of wanted pairs."""
    most = held + rows[-1] + 1
    for run in range(base, min(base + SEGMENT, most), RUN):
        first, at = table[run // page_size] * page_size + run % page_size, run - base
        for i in range(rows.shape[0]):
            n_seen = held + rows[i] + 1
            if wanted[i, at // RUN] and n_seen > run:
                squares[i, at : at + RUN] = np.float32(0.0)
                add_value_squares(a, rows[i], values, first, min(RUN, n_seen - run), squares[i], at)


@jit.inline
def look(rows, held, base, wanted, a_keys, a_values, keys, values, moments, table, reaches, energy,
         d, temperature, eps, tolerance, squares, of_pairs, of_full, full, scores,
         matches):  # fmt: skip
    """What the runs of a piece can come to at most. Readers must be silent on values.

    Args:
        scores, matches: `[len(rows), N_RUNS]` float32, written for runs that a row is to see and
            does: the largest score, at least 0, and the best match.
    """
    _note_squares(rows, held, base, wanted, a_keys, keys, 1, table, squares)
    page_size = keys.shape[2]
    for i in range(rows.shape[0]):
        of_row = squares[i]
        end = min(base + SEGMENT, held + rows[i] + 1)
        full_match(reaches[rows[i]], energy, full)
        score(a_keys, a_values, rows[i], values, moments, table, page_size, base, end, wanted[i], d,
              temperature, eps, tolerance, full, of_full, of_row, of_row, of_pairs)  # fmt: skip
        for run in range(base, end, RUN):
            number, at, n = (run - base) // RUN, run - base, min(RUN, end - run)
            if not wanted[i, number]:
                continue
            for j in range(n, RUN):
                of_pairs[at + j] = _ZERO
            # What is left out may bring exponents below 0 nearer to it.
            scores[i, number] = max(_ZERO, largest(of_pairs, at))
            matches[i, number] = _ZERO
            if full.shape[0]:
                page, place = table[run // page_size], run % page_size
                note_full(full, moments, page, place, n, of_full)
                matches[i, number] = best_share(of_full, of_row, at, _ZERO)


@jit.inline
def read(rows, held, base, wanted, a_keys, a_values, keys, values, moments, table, reaches, energy,
         d, temperature, recency, eps, tolerance, squares, value_squares, of_pairs, of_full, pairs,
         full, own, bests, matches, partials):  # fmt: skip
    """Add up the weights of a piece.

    Args:
        bests: `[len(rows)]` float64, written for rows that are to see a run, and do, as are the
            next two: the largest exponent.
        matches: `[len(rows)]` float32, the best match.
        partials: `[len(rows), d_value]`, the sums of the weights relative to the best.
    """
    page_size = keys.shape[2]
    _note_squares(rows, held, base, wanted, a_keys, keys, keys.shape[1], table, squares)
    if a_values.shape[1]:
        _note_value_squares(
            rows, held, base, wanted, a_values, values, table, page_size, value_squares
        )
    for i in range(rows.shape[0]):
        n, t = rows[i], held + rows[i]
        end = min(base + SEGMENT, t + 1)
        if not wanted[i].any() or end <= base:
            continue
        full_match(reaches[n], energy, full)
        bests[i] = find_best(
            a_keys, a_values, n, t, keys, values, moments, table, base, end, wanted[i], d,
            temperature, recency, eps, tolerance, full, of_full, squares[i], value_squares[i],
            of_pairs, pairs, own,
        )  # fmt: skip
        partials[i] = np.float32(0.0)
        add_weights(a_values, n, t, values, page_size, table, base, end, wanted[i], temperature,
                    recency, eps, pairs, bests[i], partials[i])  # fmt: skip
        matches[i] = best_match(
            full, moments, table, page_size, base, end, wanted[i], squares[i], of_full
        )


@jit.inline
def read_blunt(rows, held, base, wanted, a_keys, a_values, keys, values, moments, table, reaches,
               energy, d, temperature, eps, squares, value_squares, of_full, full, own, scales,
               unsure, sums, totals, tops, bests, matches, partials):  # fmt: skip
    """What `read` does, where the relation is blunt (`is_blunt`).

    Args:
        wanted: all there is.
        scales, unsure, sums, totals, tops: as of `new_blunt`, overwritten.
        The others are as for `read`.
    """
    page_size = keys.shape[2]
    if a_values.shape[1]:
        _note_value_squares(
            rows, held, base, wanted, a_values, values, table, page_size, value_squares
        )
    add_blunt(rows, held, base, a_keys, a_values, keys, values, moments, table, d, temperature, eps,
              full, squares, value_squares, own, scales, unsure, sums, totals, tops, bests,
              partials)  # fmt: skip
    if not energy.shape[0]:
        return
    for i in range(rows.shape[0]):
        end = min(base + SEGMENT, held + rows[i] + 1)
        if end > base:
            full_match(reaches[rows[i]], energy, full)
            matches[i] = best_match(
                full, moments, table, page_size, base, end, wanted[i], squares[i], of_full
            )


@jit.inline
def want_best(scores, wanted, leads):
    """Want nothing but the run of each reader that may come to most.

    Args:
        scores: `[n, n_segments, N_RUNS]`, of n readers, as `look` leaves them.
        wanted: `[n_segments, n, N_RUNS]` bool, overwritten.
        leads: `[n]`, overwritten: the segments of these runs.
    """
    wanted[:] = False
    for i in range(scores.shape[0]):
        run = np.argmax(scores[i])
        leads[i] = run // N_RUNS
        wanted[leads[i], i, run % N_RUNS] = True


@jit.inline
def want_others(scores, findable, leads, bests, matches, wanted):
    """Want the runs that may count beside the one that has been read, and this with its segment's.

    Args:
        scores, findable: `[n, n_segments, N_RUNS]`, as `look` leaves them; -inf for unseen runs.
        leads: as `want_best` leaves them.
        bests, matches: `[n_segments, n]`, as `read` leaves them.
        wanted: `[n_segments, n, N_RUNS]` bool, as `want_best` leaves it; updated.
    """
    for i in range(scores.shape[0]):
        best, match = bests[leads[i], i], matches[leads[i], i]
        for segment in range(scores.shape[1]):
            n_more = 0
            for run in range(N_RUNS):
                score, own = scores[i, segment, run], findable[i, segment, run]
                counts = score >= 0.0 and not (outweighed(score, best) and own <= match)
                n_more += counts and not wanted[segment, i, run]
                wanted[segment, i, run] |= counts
            if n_more == 0:  # what has been read is all
                wanted[segment, i] = False


@jit.inline
def put_together(bests, matches, partials, rows, out, best_matches):
    """Add up the segments of each reader, in ascending order.

    Args:
        bests, matches: `[n_segments, n]`, as `read` leaves them; bests are -inf for the others.
        partials: `[n_segments, n or more, d_value]`, as `read` leaves them.
        rows: `[n]`, of the readers in `out`.
        out: `[N, d_value]`; these rows are written.
        best_matches: `[n or more]` float32, written.
    """
    for i in range(rows.shape[0]):
        total, best, match = out[rows[i]], -np.inf, np.float32(0.0)
        total[:] = np.float32(0.0)
        for segment in range(bests.shape[0]):
            if bests[segment, i] == -np.inf:
                continue
            of_all = max(best, bests[segment, i])
            old, new = share(best, of_all), share(bests[segment, i], of_all)
            for c in range(total.shape[0]):
                total[c] = total[c] * old + partials[segment, i, c] * new
            best, match = of_all, max(match, matches[segment, i])
        best_matches[i] = match
