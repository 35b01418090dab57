"""The normalized relation over whole sequences, compiled by Numba, and its gradients.

Sequences are float32 `[G, S, K]`, one group g a (sequence, head), where S is their length T rounded
up to whole runs of `RUN` memories; what lies behind T is read, but without effect.
"""

import numpy as np

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.dealing import take
from causalrn.model.ops.cpu.lanes import exp2, row_sum
from causalrn.model.ops.relation.cpu import (
    LOG2E,
    PAIRS,
    RUN,
    SEGMENT,
    TILE,
    add_segment,
    aligned,
    exact_deviation,
    new_pairs,
    new_tile,
    numbers,
)
from causalrn.model.ops.relation.cpu_gradient_lanes import GRADIENT_TILE, add_gradients, weigh_four
from causalrn.model.ops.relation.cpu_lanes import score_sixteen

_F0, _F1 = np.float32(0.0), np.float32(1.0)


@jit.kernel
def forward(a, b, length, eps, n_threads, out):
    """out[g, t] = mean over v <= t of exp(norm(a[g, t] + b[g, v])).

    Args:
        a, b: `[G, S, K]`.
        length: T.
        eps: float32.
        n_threads: that the readers are dealt to.
        out: `[G, T, K]`, overwritten.
    """
    n_groups, page_size, k = b.shape
    n_tiles = (length + TILE - 1) // TILE
    totals = np.empty(n_groups * page_size)
    taken = np.zeros(2, np.int64)
    for _ in jit.prange(n_threads):
        g = take(taken, 0)
        while g < n_groups:
            for v in range(length):
                totals[g * page_size + v] = row_sum(b, g * page_size + v)
            g = take(taken, 0)
    for _ in jit.prange(n_threads):
        tile, reader_totals = new_tile(k)
        pairs, means, dwarfed = new_pairs()
        pages = np.zeros(1, np.int32)
        task = take(taken, 1)
        while task < n_groups * n_tiles:
            g = task // n_tiles
            # The last tile sees most: what is left at the end, when threads wait, is little.
            t0 = (n_tiles - 1 - task % n_tiles) * TILE
            n_readers = min(TILE, length - t0)
            pages[0] = g
            for r in range(n_readers):
                for i in range(k):
                    tile[r, i] = a[g, t0 + r, i]
                    out[g, t0 + r, i] = _F0
                reader_totals[r] = row_sum(tile, r)
            t1 = t0 + n_readers
            for begin in range(0, t1, SEGMENT):
                add_segment(
                    tile, reader_totals, n_readers, t0, b, totals, pages, page_size, 1, 0, begin,
                    min(begin + SEGMENT, t1), t1, eps, pairs, means, dwarfed,
                )  # fmt: skip
                for r in range(n_readers):
                    for i in range(k):
                        out[g, t0 + r, i] += tile[2 * TILE + r, i]
            for r in range(n_readers):
                weight = _F1 / np.float32(t0 + r + 1)
                for i in range(k):
                    out[g, t0 + r, i] *= weight
            task = take(taken, 1)


@jit.kernel
def backward(a, b, g, length, eps, n_threads, da, db):
    """Gradients of `forward`, up to their mean over K, which the caller removes.

    Args:
        a, b: as given to `forward`.
        length: T.
        g: gradient of the output, `[G, S, K]`.
        eps: float32.
        n_threads: that the groups are dealt to.
        da, db: `[G, S, K]`, overwritten; what lies behind T is of no use.
    """
    n_groups, page_size, k = b.shape
    n_chunks = (k + RUN - 1) // RUN
    entries, readers = b.reshape(-1, k), a.reshape(-1, k)
    da_rows, db_rows = da.reshape(-1, k), db.reshape(-1, k)
    totals = np.empty(n_groups * page_size)
    taken = np.zeros(1, np.int64)
    for _ in jit.prange(n_threads):
        pairs, exact_means, dwarfed = new_pairs()
        inverses, means = aligned(GRADIENT_TILE, RUN), aligned(GRADIENT_TILE, RUN)
        dots, curves = aligned(GRADIENT_TILE, RUN), aligned(GRADIENT_TILE, RUN)
        y, weighed = aligned(n_chunks * RUN, RUN), aligned(GRADIENT_TILE, k)
        alone, reader_totals = np.empty(k), np.empty(GRADIENT_TILE)
        group = take(taken, 0)
        while group < n_groups:
            base = group * page_size
            da[group] = _F0
            db[group] = _F0
            for v in range(base, base + page_size):
                totals[v] = row_sum(b, v)
            for t0 in range(0, length, GRADIENT_TILE):
                for r in range(GRADIENT_TILE):
                    weight = _F1 / np.float32(t0 + r + 1)
                    for i in range(k):
                        weighed[r, i] = g[group, t0 + r, i] * weight
                    reader_totals[r] = row_sum(a, base + t0 + r)
                t1 = min(t0 + GRADIENT_TILE, length)
                for run in range(0, t1, RUN):
                    for r in range(GRADIENT_TILE):
                        dwarfed[r] = score_sixteen(
                            readers, base + t0 + r, reader_totals[r], entries, base + run, totals,
                            numbers(k, eps), pairs, r * RUN, PAIRS * RUN, exact_means,
                        )  # fmt: skip
                    for r in range(GRADIENT_TILE):
                        for j in range(RUN):
                            means[r, j] = exact_means[r, j]
                            if (dwarfed[r] >> j) & 1:
                                pairs[r, j] = _F0
                            inverses[r, j] = pairs[r, j] * np.float32(1.0 / LOG2E)
                    for j0 in range(0, min(RUN, t1 - run), GRADIENT_TILE):
                        for r in range(GRADIENT_TILE):
                            weigh_four(
                                readers, base + t0 + r, entries, base + run + j0, weighed, r,
                                pairs, inverses, means, r * RUN + j0, y, GRADIENT_TILE * r, dots,
                            )  # fmt: skip
                        _bend(t0, t1, run, j0, k, eps, dwarfed, inverses, dots, curves, y)
                        add_gradients(
                            readers, base + t0, entries, base + run + j0, y, curves, j0, RUN,
                            da_rows, db_rows,
                        )  # fmt: skip
                        for r in range(t1 - t0):
                            for j in range(j0, j0 + GRADIENT_TILE):
                                if (dwarfed[r] >> j) & 1 and run + j <= t0 + r:
                                    _add_exact_gradients(
                                        readers, base + t0 + r, entries, base + run + j,
                                        weighed, r, exact_means[r, j], eps, alone, da_rows, db_rows,
                                    )  # fmt: skip
            group = take(taken, 0)


@jit.inline
def _bend(t0, t1, run, j0, k, eps, dwarfed, inverses, dots, curves, y):
    """Find how much of a pair's own channels its gradient has; take out pairs that do not count."""
    for r in range(GRADIENT_TILE):
        for j in range(j0, j0 + GRADIENT_TILE):
            counts = run + j <= t0 + r and t0 + r < t1 and not (dwarfed[r] >> j) & 1
            curves[r, j] = _F0
            if counts:
                deviation = _F1 / inverses[r, j] - eps
                if deviation > _F0:
                    curves[r, j] = -inverses[r, j] * dots[r, j] / np.float32(k) / deviation
            else:
                pair = GRADIENT_TILE * r + j - j0
                for chunk in range(0, y.shape[0], RUN):
                    for i in range(RUN):
                        y[chunk + pair, i] = _F0


@jit.inline
def _add_exact_gradients(a, row, b, v, g, g_row, mean, eps, y, da, db):
    """Add the gradients of a pair whose mean dwarfs its deviation, computed in float64."""
    k = a.shape[1]
    deviation = exact_deviation(a, row, b, v, mean)
    inverse = 1.0 / (deviation + eps)
    dot = 0.0
    for i in range(k):
        u = np.float64(a[row, i]) + np.float64(b[v, i]) - mean
        y[i] = inverse * g[g_row, i] * exp2(np.float32(u * inverse * LOG2E))
        dot += y[i] * u
    curve = 0.0
    if deviation > 0.0:
        curve = inverse * dot / k / deviation
    for i in range(k):
        u = np.float64(a[row, i]) + np.float64(b[v, i]) - mean
        change = np.float32(y[i] - curve * u)
        da[row, i] += change
        db[v, i] += change
