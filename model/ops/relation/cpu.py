"""The relations on the CPU: parts of whole sequences and of a ragged `extend`, compiled by Numba.

Nothing of size T·S·R is ever stored. Each (reader, memory) pair costs two passes over its K
channels: one for the squares of `a + b`, summed directly (so that near-cancelling pairs, where
retrieval happens, lose nothing), one for the exponentials. Means come from sums of the channels of
readers and memories, in float64, and enter as a factor. A pair whose mean dwarfs its deviation is
done again in float64.

Fixed order of additions: a reader adds its memories in ascending order into a partial sum that is
closed every `BLOCK` memories counted from the start of the sequence; these are added up in
segments, and then the segments. The order depends on nothing else, so whole sequences and `extend`
give the same bits, in any batch, any chunking and for any number of threads.

All arrays are C-contiguous float32 unless said otherwise; a pool may be bfloat16 instead
(`model/ops/cpu/bfloat16.py`). Where memories lie in pages, `entries` are rows of K channels and
`totals` float64 the sums of each, both counted over all axes, and `pages` are the pages of a
sequence in order; a head has `page_size` rows of each page.
"""

import math

import numpy as np

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.bfloat16 import rounded, widened
from causalrn.model.ops.cpu.lanes import exp2, row_dot, row_sum
from causalrn.model.ops.relation.cpu_lanes import (
    add_four_exponentials,
    add_four_exponentials_ahead,
    add_one_exponential,
    add_three_exponentials,
    add_two_exponentials,
    score_sixteen,
)

BLOCK = 64  # memories in one partial sum
SEGMENT = 512  # memories whose partial sums one thread of `extend` adds up at a time
RUN = 16  # memories that lie side by side in a page and stay in L1 for a tile of readers
TILE = 8  # readers that share a run of memories
LOG2E = 1.4426950408889634
_F0 = np.float32(0.0)
_F1 = np.float32(1.0)
# Above this ratio of squared mean to variance, E[u²] - E[u]² loses too much of what is left.
_MAX_MEAN = 4.0
_LINE = 16  # float32 of a cache line
PAIRS = 2 * TILE  # readers of a tile times runs that are under way


@jit.inline
def aligned(n, k):
    """An array `[n, k]` of float32 that begins at a cache line."""
    raw = np.empty(n * k + _LINE, np.float32)
    at = (-(raw.ctypes.data // 4)) % _LINE
    return raw[at : at + n * k].reshape(n, k)


@jit.inline
def new_pairs():
    """Scratch for the pairs of a tile of readers with two runs of memories.

    Returns:
        Scales, then factors, `[2·PAIRS, RUN]`; means `[PAIRS, RUN]` float64; and bits of those that
        are done in float64, `[PAIRS]` int64.
    """
    return aligned(2 * PAIRS, RUN), np.empty((PAIRS, RUN)), np.empty(PAIRS, np.int64)


@jit.inline
def numbers(k, eps):
    """What `score_sixteen` needs of a relation with k channels."""
    return 1.0 / k, np.float64(eps), LOG2E, _MAX_MEAN


@jit.inline
def new_tile(k):
    """Scratch for a tile: readers, partial sums and sums, `[3·TILE, K]`; and readers' totals."""
    return aligned(3 * TILE, k), np.empty(TILE)


@jit.inline
def add_segment(tile, reader_totals, n_readers, t0, entries, totals, pages, page_size, n_heads,
                head, begin, end, n_memories, eps, pairs, means, dwarfed):  # fmt: skip
    """Add up exp(norm(reader + memory)) over memories of one segment, for each reader of a tile.

    Args:
        tile, reader_totals: as of `new_tile`; sums are written.
        n_readers: how many there are.
        t0: the place of the first one, which sees all memories up to its own place.
        begin, end: memories of the segment.
        n_memories: of the whole sequence.
        eps: float32.
        pairs, means, dwarfed: as of `new_pairs`, overwritten.
    """
    k = tile.shape[1]
    n_runs = (end - begin + RUN - 1) // RUN
    last_run = (n_memories - 1) // RUN * RUN
    for r in range(n_readers):
        for i in range(k):
            tile[TILE + r, i] = _F0
            tile[2 * TILE + r, i] = _F0
    before = np.int64(0)
    # The scales of a run are found one run ahead: roots and divisions take their time.
    for n_begun in range(n_runs + 1):
        run = begin + n_begun * RUN
        first = np.int64(0)
        if n_begun < n_runs:
            first = _entry(pages, page_size, n_heads, head, run)
            for r in range(max(0, run - t0), n_readers):
                at = n_begun % 2 * TILE + r
                dwarfed[at] = score_sixteen(
                    tile, r, reader_totals[r], entries, first, totals, numbers(k, eps), pairs,
                    at * RUN, PAIRS * RUN, means,
                )  # fmt: skip
        if n_begun > 0:
            ahead = _entry(pages, page_size, n_heads, head, min(run + RUN, last_run))
            run -= RUN
            fresh = max(0, run - t0)
            for r in range(fresh, n_readers):
                at = (n_begun - 1) % 2 * TILE + r
                n = min(RUN, t0 + r + 1 - run)
                if n < RUN or dwarfed[at] != 0:
                    _add_some(tile, r, entries, before, n, eps, pairs, means, dwarfed, at)
                elif r == fresh:
                    for j in range(0, RUN, 4):
                        add_four_exponentials_ahead(
                            tile, r, entries, before + j, pairs, at * RUN + j, PAIRS * RUN,
                            tile, TILE + r, ahead + j,
                        )  # fmt: skip
                else:
                    for j in range(0, RUN, 4):
                        add_four_exponentials(
                            tile, r, entries, before + j, pairs, at * RUN + j, PAIRS * RUN,
                            tile, TILE + r,
                        )  # fmt: skip
            if (run + RUN) % BLOCK == 0 or n_begun == n_runs:
                for r in range(n_readers):
                    for i in range(k):
                        tile[2 * TILE + r, i] += tile[TILE + r, i]
                        tile[TILE + r, i] = _F0
        before = first


@jit.inline
def _entry(pages, page_size, n_heads, head, v):
    """The row of memory v of a sequence."""
    page = np.int64(pages[v // page_size])
    return (page * n_heads + head) * page_size + v % page_size


@jit.inline
def _add_some(tile, r, entries, first, n, eps, pairs, means, dwarfed, at):
    """Add the first n memories of a run, of which some may have to be done in float64."""
    of_run, stride, into = at * RUN, PAIRS * RUN, TILE + r
    exact = dwarfed[at] & ((1 << n) - 1)
    if exact != 0:
        for j in range(n):
            v = first + j
            if (exact >> j) & 1:
                _add_exact(tile, r, entries, v, means[at, j], eps)
            else:
                add_one_exponential(tile, r, entries, v, pairs, of_run + j, stride, tile, into)
        return
    j = 0
    while j + 4 <= n:
        add_four_exponentials(
            tile, r, entries, first + j, pairs, of_run + j, stride, tile, into
        )  # fmt: skip
        j += 4
    v, of_pair = first + j, of_run + j
    if n - j == 3:
        add_three_exponentials(tile, r, entries, v, pairs, of_pair, stride, tile, into)
    elif n - j == 2:
        add_two_exponentials(tile, r, entries, v, pairs, of_pair, stride, tile, into)
    elif n - j == 1:
        add_one_exponential(tile, r, entries, v, pairs, of_pair, stride, tile, into)


@jit.inline
def _add_exact(tile, r, entries, v, mean, eps):
    """Add a pair whose mean dwarfs its deviation."""
    k = tile.shape[1]
    memories = entries.reshape(-1, k)
    scale = np.float32(LOG2E / (exact_deviation(tile, r, memories, v, mean) + eps))
    for i in range(k):
        u = np.float64(tile[r, i]) + np.float64(widened(memories[v, i])) - mean
        tile[TILE + r, i] += exp2(np.float32(u) * scale)


@jit.inline
def exact_deviation(readers, r, memories, v, mean):
    """The standard deviation of a pair, rows of two-dimensional arrays, in float64."""
    k = readers.shape[1]
    squares = 0.0
    for i in range(k):
        u = np.float64(readers[r, i]) + np.float64(widened(memories[v, i])) - mean
        squares += u * u
    return math.sqrt(squares / k)


@jit.inline
def append(b, n, entry, table, pool, totals):
    """Write one memory into its sequence's page, and the sums of its channels.

    Args:
        b: new memories `[N, R]`.
        n: the row to write.
        entry: memories that the sequence has before this one.
        table: `[M]` int32, pages of the sequence in order.
        pool: `[n_pages, H, page_size, K]`, written.
        totals: `[n_pages, H, page_size, 1]` float64, written.
    """
    n_heads, page_size, k = pool.shape[1:]
    page, place = np.int64(table[entry // page_size]), entry % page_size
    for h in range(n_heads):
        for i in range(k):
            pool[page, h, place, i] = rounded(b[n, h * k + i], pool)
        totals[page, h, place, 0] = row_sum(pool, (page * n_heads + h) * page_size + place)


@jit.inline
def relate(part, n_parts, a, active, starts, context_lens, block_tables, pool, totals, eps, tile,
           reader_totals, pairs, means, dwarfed, partials):  # fmt: skip
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
        pool, totals: as `append` writes them; they hold the new memories already.
        eps: float32.
        tile, reader_totals, pairs, means, dwarfed: as of `new_tile` and `new_pairs`.
        partials: `[n_segments, N, R]`, the part's pieces overwritten.
    """
    n_heads, page_size, k = pool.shape[1:]
    total = 0
    for s in range(context_lens.shape[0]):
        for n in range(starts[s], starts[s + 1], TILE):
            n_readers, length = tile_of(starts, context_lens, s, n)
            if active[n : n + n_readers].any():
                total += n_heads * n_readers * length
    done = 0
    for s in range(context_lens.shape[0]):
        for n0 in range(starts[s], starts[s + 1], TILE):
            n_readers, n_memories = tile_of(starts, context_lens, s, n0)
            if not active[n0 : n0 + n_readers].any():
                continue
            for segment in range(0, n_memories, SEGMENT):
                end = min(segment + SEGMENT, n_memories)
                cost = n_readers * (end - segment)
                for h in range(n_heads):
                    # A piece belongs to the part in which its middle lies.
                    owner = (2 * done + cost) * n_parts // (2 * total)
                    done += cost
                    if owner != part:
                        continue
                    for r in range(n_readers):
                        for i in range(k):
                            tile[r, i] = a[n0 + r, h * k + i]
                        reader_totals[r] = row_sum(tile, r)
                    add_segment(
                        tile, reader_totals, n_readers, n_memories - n_readers, pool, totals,
                        block_tables[s], page_size, n_heads, h, segment, end, n_memories, eps,
                        pairs, means, dwarfed,
                    )  # fmt: skip
                    for r in range(n_readers):
                        for i in range(k):
                            partials[segment // SEGMENT, n0 + r, h * k + i] = tile[2 * TILE + r, i]


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
def tile_of(starts, context_lens, s, n):
    """How many readers the tile at row n of sequence s has, and memories its last reader sees."""
    n_readers = min(TILE, starts[s + 1] - n)
    return n_readers, context_lens[s] + n - starts[s] + n_readers


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
    mean = row_sum(row, 0) / k
    std = math.sqrt(row_dot(row, row, mean) / k)
    return np.float32(mean), np.float32(LOG2E) / (np.float32(std) + eps)
