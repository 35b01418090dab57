"""The relations on the CPU: forward, backward and ragged `extend`, compiled by Numba.

Nothing of size T·S·R is ever stored. Each (reader, memory) pair costs two passes over its K
channels: one for mean and deviation of `a + b`, summed directly (so that near-cancelling pairs,
where retrieval happens, lose nothing), one for the exponentials. A pair whose mean dwarfs its
deviation is done again in float64.

Fixed order of additions: a reader adds its memories four at a time, in ascending order, into a
partial sum that is closed every `BLOCK` memories counted from the start of the sequence; `extend`
adds these up in segments, and then the segments. The order depends on nothing else, so `extend`
gives the same bits in any batch, any chunking and for any number of threads.

All arrays are C-contiguous float32 unless said otherwise.
"""

import math

import numpy as np

from model.ops.cpu import jit
from model.ops.cpu.lanes import (
    exp2,
    fma,
    four_pair_sums,
    pair_sums,
    prefetch,
    row_dot,
    row_dot_single,
    row_sum,
)

BLOCK = 64  # memories in one partial sum
SEGMENT = 512  # memories whose partial sums one thread of `extend` adds up at a time
_RUN = 16  # memories that lie side by side in a page and stay in L1 for a tile of readers
_TILE = 8  # readers that share a run of memories
_LOG2E = np.float32(1.4426950408889634)
_F0 = np.float32(0.0)
_F1 = np.float32(1.0)
# Above this ratio of squared mean to variance, rounding a + b costs too much of what is left.
_MAX_MEAN = np.float32(4.0)


@jit.inline
def _moments(a, b, row, first, n, eps, scales, shifts, means):
    """For n pairs: log2(e) / (std + eps), minus the mean times that, and the mean in float64.

    Returns whether any pair's mean dwarfs its deviation.
    """
    j = 0
    while j + 4 <= n:
        sums = four_pair_sums(a, row, b, first + j)
        scales[j], scales[j + 1], scales[j + 2], scales[j + 3] = sums[:4]
        shifts[j], shifts[j + 1], shifts[j + 2], shifts[j + 3] = sums[4:]
        j += 4
    while j < n:
        scales[j], shifts[j] = pair_sums(a, row, b, first + j)
        j += 1
    inv_k = _F1 / np.float32(a.shape[1])
    n_exact = 0
    for j in range(n):
        mean, variance = _moment(scales[j], shifts[j], inv_k)
        n_exact += _is_exact(mean, variance)
        means[j] = mean
        scales[j] = _LOG2E / (math.sqrt(variance) + eps)
        shifts[j] = -mean * scales[j]
    if n_exact > 0:
        for j in range(n):
            total, squares = pair_sums(a, row, b, first + j)
            mean, variance = _moment(total, squares, inv_k)
            if _is_exact(mean, variance):
                means[j], variance = _exact_moments(a, b, row, first + j)
                scales[j] = _LOG2E / (math.sqrt(variance) + eps)
    return n_exact > 0


@jit.inline
def _moment(total, squares, inv_k):
    """Mean and variance of a pair, from the sums of its channels and their squares."""
    mean = total * inv_k
    return mean, fma(-mean, mean, squares * inv_k)


@jit.inline
def _is_exact(mean, variance):
    """Whether the mean so dwarfs the deviation that the pair is done in float64."""
    return mean * mean > _MAX_MEAN * variance


@jit.inline
def _exact_moments(a, b, row, v):
    """Mean and variance of one pair, added up in float64; the variance as float32."""
    k = a.shape[1]
    total = 0.0
    for i in range(k):
        total += np.float64(a[row, i]) + np.float64(b[v, i])
    mean = total / k
    squares = 0.0
    for i in range(k):
        u = np.float64(a[row, i]) + np.float64(b[v, i]) - mean
        squares += u * u
    return mean, np.float32(squares / k)


@jit.inline
def _exp_exact(x, y, mean, scale):
    """exp of one normalized channel, the mean removed in float64."""
    return exp2(np.float32(np.float64(x) + np.float64(y) - mean) * scale)


@jit.inline
def _add_run(a, b, row, first, n, eps, scales, shifts, means, out, out_row):
    """out[out_row] += sum over j < n of exp(norm(a[row] + b[first + j]))."""
    any_exact = _moments(a, b, row, first, n, eps, scales, shifts, means)
    k = a.shape[1]
    j = 0
    while j + 4 <= n:
        s0, s1, s2, s3 = scales[j], scales[j + 1], scales[j + 2], scales[j + 3]
        v = first + j
        if any_exact:
            m0, m1, m2, m3 = means[j], means[j + 1], means[j + 2], means[j + 3]
            for i in range(k):
                x = a[row, i]
                e0 = _exp_exact(x, b[v, i], m0, s0)
                e1 = _exp_exact(x, b[v + 1, i], m1, s1)
                e2 = _exp_exact(x, b[v + 2, i], m2, s2)
                e3 = _exp_exact(x, b[v + 3, i], m3, s3)
                out[out_row, i] += (e0 + e1) + (e2 + e3)
        else:
            c0, c1, c2, c3 = shifts[j], shifts[j + 1], shifts[j + 2], shifts[j + 3]
            for i in range(k):
                x = a[row, i]
                e0 = exp2(fma(x + b[v, i], s0, c0))
                e1 = exp2(fma(x + b[v + 1, i], s1, c1))
                e2 = exp2(fma(x + b[v + 2, i], s2, c2))
                e3 = exp2(fma(x + b[v + 3, i], s3, c3))
                out[out_row, i] += (e0 + e1) + (e2 + e3)
        j += 4
    while j < n:
        for i in range(k):
            out[out_row, i] += _exp_exact(a[row, i], b[first + j, i], means[j], scales[j])
        j += 1


@jit.kernel
def forward(a, b, eps, n_parts, out):
    """out[g, t] = mean over v <= t of exp(norm(a[g, t] + b[g, v])).

    Args:
        a, b: `[G, T, K]`, one group g a (sequence, head).
        eps: float32.
        n_parts: parts the readers are dealt into, each one thread's work.
        out: `[G, T, K]`, overwritten.
    """
    n_groups, length, k = a.shape
    n_tiles = (length + _TILE - 1) // _TILE
    for part in jit.prange(n_parts):
        scales, shifts = np.empty(_RUN, np.float32), np.empty(_RUN, np.float32)
        means = np.empty(_RUN)
        partial = np.empty((_TILE, k), np.float32)
        for task in range(part, n_groups * n_tiles, n_parts):
            g = task // n_tiles
            t0 = (task % n_tiles) * _TILE
            t1 = min(t0 + _TILE, length)
            ag, bg, og = a[g], b[g], out[g]
            og[t0:t1] = _F0
            for block in range(0, t1, BLOCK):
                partial[:] = _F0
                for run in range(block, min(block + BLOCK, t1), _RUN):
                    for t in range(max(t0, run), t1):
                        n, row = min(_RUN, t + 1 - run), t - t0
                        _add_run(ag, bg, t, run, n, eps, scales, shifts, means, partial, row)
                for t in range(max(t0, block), t1):
                    for i in range(k):
                        og[t, i] += partial[t - t0, i]
            for t in range(t0, t1):
                weight = _F1 / np.float32(t + 1)
                for i in range(k):
                    og[t, i] *= weight


@jit.kernel
def backward(a, b, g, eps, n_parts, da, db):
    """Gradients of `forward`, up to their mean over K, which the caller removes.

    Args:
        a, b: `[G, T, K]` as given to `forward`.
        g: gradient of the output, `[G, T, K]`.
        n_parts: parts the groups are dealt into, each one thread's work.
        da, db: `[G, T, K]`, overwritten.
    """
    n_groups, length, k = a.shape
    inv_k = _F1 / np.float32(k)
    for part in jit.prange(n_parts):
        scales, shifts = np.empty(_RUN, np.float32), np.empty(_RUN, np.float32)
        means = np.empty(_RUN)
        u, y = np.empty(k, np.float32), np.empty(k, np.float32)
        gt = np.empty((_TILE, k), np.float32)
        for group in range(part, n_groups, n_parts):
            ag, bg, gg, dag, dbg = a[group], b[group], g[group], da[group], db[group]
            dag[:] = _F0
            dbg[:] = _F0
            for t0 in range(0, length, _TILE):
                t1 = min(t0 + _TILE, length)
                for t in range(t0, t1):
                    weight = _F1 / np.float32(t + 1)
                    for i in range(k):
                        gt[t - t0, i] = gg[t, i] * weight
                for run in range(0, t1, _RUN):
                    for t in range(max(t0, run), t1):
                        n = min(_RUN, t + 1 - run)
                        _moments(ag, bg, t, run, n, eps, scales, shifts, means)
                        for j in range(n):
                            v, s, mean = run + j, scales[j], np.float32(means[j])
                            inv = s / _LOG2E
                            for i in range(k):
                                u[i] = ag[t, i] + bg[v, i] - mean
                                y[i] = gt[t - t0, i] * exp2(u[i] * s)
                            dot = row_dot_single(y, u)
                            # d(pair) = inv·(y - mean(y)) - curve·u, with
                            # curve = inv² · mean(y·u) / std; mean(y) goes with the mean over K.
                            std = _F1 / inv - eps
                            curve = _F0
                            if std > _F0:
                                curve = inv * inv * dot * inv_k / std
                            for i in range(k):
                                d = fma(-curve, u[i], inv * y[i])
                                dag[t, i] += d
                                dbg[v, i] += d


@jit.inline
def append(b, n, entry, table, pool):
    """Write one memory into its sequence's page.

    Args:
        b: new memories `[N, R]`.
        n: the row to write.
        entry: memories that the sequence has before this one.
        table: `[M]` int32, pages of the sequence in order.
        pool: `[n_pages, H, page_size, K]`, written.
    """
    n_heads, page_size, k = pool.shape[1:]
    page = pool[table[entry // page_size]]
    for h in range(n_heads):
        for i in range(k):
            page[h, entry % page_size, i] = b[n, h * k + i]


@jit.inline
def relate(part, n_parts, a, active, starts, context_lens, block_tables, pool, eps, partials):
    """Do one of `n_parts` parts, of about equal cost, of relating new readers to their pools.

    The work consists of pieces: a tile of readers, one head, one segment of their pool. That way
    many short pools are dealt out as evenly as a long one; `combine` puts the segments together. A
    tile without any active reader is no work.

    Args:
        part, n_parts: which part, of how many.
        a: new readers `[N, R]`.
        active: `[N]` bool, readers whose results are wanted.
        starts: `[S + 1]` int64; sequence s brings rows `starts[s]:starts[s + 1]`.
        context_lens: `[S]` int64, memories that each pool held before these.
        block_tables: `[S, M]` int32, pages of each pool in order.
        pool: `[n_pages, H, page_size, K]`, which holds the new memories already.
        eps: float32.
        partials: `[n_segments, N, R]`, the part's pieces overwritten.
    """
    n_heads, page_size, k = pool.shape[1:]
    entries = pool.reshape(-1, k)
    total = 0
    for s in range(context_lens.shape[0]):
        for n in range(starts[s], starts[s + 1], _TILE):
            readers, length = _tile(starts, context_lens, s, n)
            if active[n : n + readers].any():
                total += n_heads * readers * length
    scales, shifts = np.empty(_RUN, np.float32), np.empty(_RUN, np.float32)
    means = np.empty(_RUN)
    readers = np.empty((_TILE, k), np.float32)
    partial = np.empty((_TILE, k), np.float32)
    sums = np.empty((_TILE, k), np.float32)
    done = 0
    for s in range(context_lens.shape[0]):
        for n0 in range(starts[s], starts[s + 1], _TILE):
            n_readers, t1 = _tile(starts, context_lens, s, n0)
            if not active[n0 : n0 + n_readers].any():
                continue
            t0 = t1 - n_readers
            for segment in range(0, t1, SEGMENT):
                end = min(segment + SEGMENT, t1)
                cost = n_readers * (end - segment)
                for h in range(n_heads):
                    # A piece belongs to the part in which its middle lies.
                    owner = (2 * done + cost) * n_parts // (2 * total)
                    done += cost
                    if owner != part:
                        continue
                    readers[:n_readers] = a[n0 : n0 + n_readers, h * k : (h + 1) * k]
                    sums[:] = _F0
                    for block in range(segment, end, BLOCK):
                        partial[:] = _F0
                        for run in range(block, min(block + BLOCK, end), _RUN):
                            page = block_tables[s, run // page_size]
                            first = (page * n_heads + h) * page_size + run % page_size
                            ahead = run + _RUN
                            if ahead < t1:
                                page = block_tables[s, ahead // page_size]
                                row = (page * n_heads + h) * page_size + ahead % page_size
                                prefetch(entries, row, min(_RUN, t1 - ahead))
                            for t in range(max(t0, run), t1):
                                size, row = min(_RUN, t + 1 - run), t - t0
                                _add_run(
                                    readers, entries, row, first, size, eps,
                                    scales, shifts, means, partial, row,
                                )  # fmt: skip
                        for t in range(max(t0, block), t1):
                            for i in range(k):
                                sums[t - t0, i] += partial[t - t0, i]
                    for t in range(t0, t1):
                        for i in range(k):
                            partials[segment // SEGMENT, n0 + t - t0, h * k + i] = sums[t - t0, i]


@jit.inline
def combine(n, n_seen, partials, out):
    """Put the segments of a row together, into its mean over the memories that it sees.

    Args:
        n: the row.
        n_seen: memories that it sees, its own included.
        partials: `[n_segments, N, R]`, as `relate` leaves them.
        out: `[N, R]`, the row overwritten.
    """
    for i in range(out.shape[1]):
        out[n, i] = partials[0, n, i]
    for segment in range(1, (n_seen + SEGMENT - 1) // SEGMENT):
        for i in range(out.shape[1]):
            out[n, i] += partials[segment, n, i]
    weight = _F1 / np.float32(n_seen)
    for i in range(out.shape[1]):
        out[n, i] *= weight


@jit.inline
def _tile(starts, context_lens, s, n):
    """How many readers the tile at row n of sequence s has, and memories its last reader sees."""
    readers = min(_TILE, starts[s + 1] - n)
    return readers, context_lens[s] + n - starts[s] + readers


@jit.inline
def accumulate(a, b, eps, sums, n_seen, out):
    """Add one memory to a sequence's running sums of exp(norm(b)), and read them.

    Args:
        a, b: reader and memory of one head, `[K]` float32.
        eps: float32.
        sums: `[K]` float64, updated in place: added to token by token, so that no chunking changes
            a bit.
        n_seen: memories in the sums with this one.
        out: `[K]`, written.
    """
    mean, scale = _norm_scale(b, eps)
    for i in range(b.shape[0]):
        sums[i] += exp2((b[i] - mean) * scale)
    mean, scale = _norm_scale(a, eps)
    weight = 1.0 / n_seen
    for i in range(a.shape[0]):
        out[i] = exp2((a[i] - mean) * scale) * np.float32(sums[i] * weight)


@jit.inline
def _norm_scale(row, eps):
    """Mean of a row, and log2(e) / (std + eps)."""
    k = row.shape[0]
    mean = row_sum(row) / k
    std = math.sqrt(row_dot(row, row, mean) / k)
    return np.float32(mean), _LOG2E / (np.float32(std) + eps)
