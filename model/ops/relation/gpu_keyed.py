"""The keyed relation on a device: all pairs in float32, and in float64 those that count.

`survey` bounds the exponent of the largest weight of each pair, from above and from below, and
keeps for each reader what a run of memories comes to at most, and a segment at least. `read` then
adds up the weights of the runs that may count beside the best; where the relation is sharp, these
are few. Where it is blunt (`causalrn.model.ops.relation.cpu_keyed_blunt`), nearly all pairs count,
and float32 keeps what counts of them: `survey` adds them up at once, and leaves to `read` the runs
with a pair that float32 cannot tell. `combine` puts segments together, in ascending order. All of
this depends on the reader and what it sees alone, so a reader gets the same bits in any batch and
any chunking.

Common arguments: `a_keys` `[N, n_keys]` and `a_values` `[N, V]`, what readers say; `keys`
`[n_pages, n_blocks, page_size, KEY_BLOCK]`, `values` `[n_pages, page_size, V]` and `moments`
`[n_pages, 4, page_size]`, as `append` writes them; `block_tables`, `owners`, `places`, `phases`,
`reaches`, of the batch; `full` `[n_taps + 1, n_taps + 2]` (`full_matches`); `temperature`
`[1]`; `d`, channels of a pair. `SPEAKS`: whether readers say anything of values. `TOLERANCE` and
`RECENCY`, `EPS`: of the relation.
"""

import triton
import triton.language as tl

from causalrn.model.ops.gpu.tiles import (
    ALL_REGISTERS,
    VARYING,
    is_active,
    positive,
    rounded,
    store_memory,
    widened,
)
from causalrn.model.ops.relation import KEY_BLOCK
from causalrn.model.ops.relation.gpu import dwarfs, run_of

_RUN = 16  # memories; a page has a multiple of it
_READ = 4096  # values that `read` takes at a time, at most

MARGIN = tl.constexpr(64.0)  # as on the CPU: what is further below the best has no weight
SLACK = tl.constexpr(1e-5)  # of an exponent, for what float32 may be off
ULP = tl.constexpr(6e-8)
_LOG2E = tl.constexpr(1.4426950408889634)
_LEAST = tl.constexpr(-126.0)
_BLOCK = tl.constexpr(KEY_BLOCK)
_NEVER = tl.constexpr(float("-inf"))
_INFINITE = tl.constexpr(float("inf"))


def tiles_of(
    n_keys: int, n_values: int, *, SPEAKS: bool, BLUNT: bool
) -> tuple[dict[str, int], dict[str, int]]:
    """Tiles of `survey` and of `read`, of as many memories: such that neither spills.

    Args:
        n_keys, n_values: of a memory.
        SPEAKS, BLUNT: whether `survey` needs values.
    """
    channels, keys = triton.next_power_of_2(n_values), keys_of(n_keys)
    wide = max(128, channels)
    run = min(_RUN, _READ // wide, _READ // keys)
    surveyed = {"RUN": run, "num_warps": 4} | (run_of(channels) if SPEAKS or BLUNT else {})
    run = surveyed["RUN"] = min(run, surveyed["RUN"])
    read = {"VALUES": wide, "RUN": run, "num_warps": 8}
    return surveyed | {"KEYS": keys, "VALUES": channels} | ALL_REGISTERS, read | ALL_REGISTERS


def keys_of(n_keys: int) -> int:
    """Channels of keys in whole blocks, up to the next power of two."""
    return max(KEY_BLOCK, 1 << (n_keys - 1).bit_length())


@triton.jit(do_not_specialize=VARYING)
def append(
    a_keys, b_keys, b_values, reaches, owners, places, block_tables, keys, values, moments,
    n_pages_each, n_keys, n_blocks, n_values, page_size, SIGN: tl.constexpr,
    TOLERANCE: tl.constexpr, KEYS: tl.constexpr, VALUES: tl.constexpr,
):  # fmt: skip
    """Write the memory of each row to its page, and its moments.

    These are the sum of its values, and of its keys unless there is a tolerance; the sum of the
    squares of its values; the largest of them; and its reach.

    Args:
        a_keys: `[N, n_keys]`; rounded as the pool's keys are if `SIGN` is negative.
        b_keys: `[N, n_keys]`, times `SIGN`.
        b_values: `[N, V]`.
    """
    row = tl.program_id(0).to(tl.int64)
    place = tl.load(places + row)
    page = tl.load(block_tables + tl.load(owners + row) * n_pages_each + place // page_size)
    page, place = page.to(tl.int64), place % page_size
    key = tl.arange(0, KEYS)
    own = rounded(tl.load(b_keys + row * n_keys + key, key < n_keys, 0.0) * SIGN, keys)
    if SIGN < 0:  # of tied keys, what is rounded alike still cancels to the last bit
        said = tl.load(a_keys + row * n_keys + key, key < n_keys, 0.0)
        tl.store(a_keys + row * n_keys + key, rounded(said, keys), key < n_keys)
    at = ((page * n_blocks + key // _BLOCK) * page_size + place) * _BLOCK + key % _BLOCK
    store_memory(keys + at, own, key < n_blocks * _BLOCK)
    channel = tl.arange(0, VALUES)
    is_value = channel < n_values
    value = rounded(tl.load(b_values + row * n_values + channel, is_value, 0.0), values)
    store_memory(values + (page * page_size + place) * n_values + channel, value, is_value)
    total = tl.sum(value, 0)
    if TOLERANCE == 0:
        total += tl.sum(own, 0)
    moment = moments + page * 4 * page_size + place
    tl.store(moment, total)
    tl.store(moment + page_size, tl.sum(value * value, 0))
    tl.store(moment + 2 * page_size, tl.max(tl.where(is_value, value, _NEVER), 0))
    tl.store(moment + 3 * page_size, tl.load(reaches + row).to(tl.float32))


@triton.jit
def _exponent(top, mean, variance, temperature, EPS: tl.constexpr):
    return temperature * (top - mean) / (tl.sqrt(variance) + EPS)


@triton.jit(do_not_specialize=VARYING)
def survey(
    a_keys, a_values, owners, places, phases, reaches, block_tables, keys, values, moments, full,
    temperature, scores, lowers, matches, bests, partials, n_rows, n_runs, n_pages_each, page_size,
    n_keys, n_blocks, n_values, n_taps, mask, SPEAKS: tl.constexpr, TELLS: tl.constexpr,
    BLUNT: tl.constexpr, RECENCY: tl.constexpr, TOLERANCE: tl.constexpr, EPS: tl.constexpr,
    KEYS: tl.constexpr, VALUES: tl.constexpr, RUN: tl.constexpr, SEGMENT: tl.constexpr,
):  # fmt: skip
    """Look at the pairs of a reader with the memories of a segment.

    Args:
        scores: `[N, n_runs]`, written: what the exponents of a run come to at most; infinite where
            float32 cannot tell, and -inf for what is added up already.
        lowers: `[n_segments, N]`, written: what the largest exponent of a segment is at least.
        matches: `[n_segments, N]`, written if `TELLS`: the best match, 1 at most.
        bests, partials: `[n_segments, N]` float64 and `[n_segments, N, V]`, written if `BLUNT`: the
            largest exponent of what is added up already, and the weights relative to it.
    """
    row = tl.program_id(0).to(tl.int64)
    begin = tl.program_id(1) * SEGMENT
    place = tl.load(places + row)
    if (begin > place) | ~is_active(tl.load(phases + row), mask):
        return
    key, channel = tl.arange(0, KEYS), tl.arange(0, VALUES)
    is_held_key, is_value = (key < n_blocks * _BLOCK)[None, :], (channel < n_values)[None, :]
    d = n_keys + n_values
    tau = tl.load(temperature)
    own = tl.load(a_keys + row * n_keys + key, key < n_keys, 0.0)[None, :]
    own_total = tl.zeros((1,), tl.float32)
    if TOLERANCE == 0:
        own_total += tl.sum(own, 1)
    spoken = tl.zeros((1, VALUES), tl.float32)
    if SPEAKS:
        said = tl.load(a_values + row * n_values + channel, channel < n_values, 0.0)
        spoken = said[None, :]
        own_total += tl.sum(spoken, 1)
    reach = tl.minimum(tl.load(reaches + row), n_taps)
    off = (n_blocks * _BLOCK + 4) * ULP
    lower, match = tl.cast(_NEVER, tl.float32), tl.cast(0.0, tl.float32)
    best = tl.cast(_NEVER, tl.float32)
    total = tl.zeros((RUN, VALUES), tl.float32)
    table = block_tables + tl.load(owners + row) * n_pages_each
    for run in range(begin, min(begin + SEGMENT, place + 1), RUN):
        page = tl.load(table + run // page_size).to(tl.int64)
        inside = run % page_size + tl.arange(0, RUN)
        memory = run + tl.arange(0, RUN)
        is_seen = memory <= place
        block = (page * n_blocks + key // _BLOCK)[None, :] * page_size + inside[:, None]
        at = keys + block * _BLOCK + (key % _BLOCK)[None, :]
        held = widened(tl.load(at, is_seen[:, None] & is_held_key, 0))
        pair = own + held
        squares = tl.sum(pair * pair, 1)
        moment = moments + page * 4 * page_size + inside
        mean = (tl.load(moment, is_seen, 0.0) + own_total) / d
        of_full = tl.zeros((RUN,), tl.float32)
        if TELLS:
            theirs = tl.load(moment + 3 * page_size, is_seen, 0.0)
            theirs = tl.minimum(theirs, n_taps + 1.0).to(tl.int32)
            of_full = tl.load(full + reach * (n_taps + 2) + theirs, is_seen, 0.0)
            share = tl.where(of_full > 0, of_full / tl.maximum(squares, of_full), 0.0)
            match = tl.maximum(match, tl.max(tl.where(is_seen, share, 0.0), 0))
        u = tl.zeros((RUN, VALUES), tl.float32)
        if SPEAKS or BLUNT:
            value = (page * page_size + inside)[:, None] * n_values + channel[None, :]
            u = spoken + widened(tl.load(values + value, is_seen[:, None] & is_value, 0))
        if SPEAKS:
            value_squares = tl.sum(u * u, 1)
            top = tl.max(tl.where(is_value, u, _NEVER), 1)
        else:
            value_squares = tl.load(moment + page_size, is_seen, 0.0)
            top = tl.load(moment + 2 * page_size, is_seen, 0.0)
        least, most = squares, squares
        if TOLERANCE > 0:
            least = positive(squares * (1 - off) - of_full * (TOLERANCE * (1 + off)))
            most = positive(squares * (1 + off) - of_full * (TOLERANCE * (1 - off)))
        less = (least + value_squares) / d - mean * mean
        more = (most + value_squares) / d - mean * mean
        is_told = is_seen & ~dwarfs(mean, less)
        sharp = _exponent(top, mean, less, tau, EPS)
        dull = _exponent(top, mean, more, tau, EPS)
        older = tl.zeros((RUN,), tl.float32)
        if RECENCY > 0:
            older = RECENCY * tl.log(1.0 + tl.maximum(place - memory, 0).to(tl.float32))
        above, below = tl.maximum(sharp, dull), tl.minimum(sharp, dull)
        above += SLACK * tl.abs(above) - older * (1 - SLACK)
        below -= SLACK * tl.abs(below) + older * (1 + SLACK)
        above = tl.where(is_told, above, tl.where(is_seen, _INFINITE, _NEVER))
        lower = tl.maximum(lower, tl.max(tl.where(is_told, below, _NEVER), 0))
        score = tl.max(above, 0)
        if BLUNT:
            n_hard = tl.zeros((RUN,), tl.int32) + tl.max(tl.where(is_seen & ~is_told, 1, 0), 0)
            is_added = is_told & (n_hard == 0)
            best = tl.maximum(best, tl.max(tl.where(is_added, sharp, _NEVER), 0))
            scale = tl.where(is_added, tau / (tl.sqrt(less) + EPS) * _LOG2E, 0.0)
            shift = tl.where(is_added, -mean * scale, _NEVER)
            total += tl.exp2(u * scale[:, None] + shift[:, None])
            score = tl.where(score < _INFINITE, _NEVER, score)
        tl.store(scores + row * n_runs + run // RUN, score)
    at = tl.program_id(1).to(tl.int64) * n_rows + row
    tl.store(lowers + at, lower)
    if TELLS:
        tl.store(matches + at, match)
    if BLUNT:
        tl.store(bests + at, best.to(tl.float64))
        relative = tl.where(best > _NEVER, tl.exp2(-best * _LOG2E), 0.0)
        tl.store(
            partials + at * n_values + channel, tl.sum(total, 0) * relative, channel < n_values
        )


@triton.jit
def relative(best, of_all):
    """By what weights are multiplied to be relative to a best exponent that is no smaller."""
    share = tl.exp2(((best - of_all) * _LOG2E).to(tl.float32))
    return tl.where(best >= of_all - MARGIN, share, 0.0)


@triton.jit(do_not_specialize=VARYING)
def read(
    a_keys, a_values, owners, places, phases, reaches, block_tables, keys, values, moments, full,
    temperature, scores, lowers, bests, partials, n_rows, n_runs, n_pages_each, page_size, n_keys,
    n_blocks, n_values, n_taps, mask, SPEAKS: tl.constexpr, BLUNT: tl.constexpr,
    RECENCY: tl.constexpr, TOLERANCE: tl.constexpr, EPS: tl.constexpr, VALUES: tl.constexpr,
    RUN: tl.constexpr, SEGMENT: tl.constexpr,
):  # fmt: skip
    """Add up in float64 the weights of the runs of a segment that may count for a reader.

    Args:
        scores, lowers: as `survey` leaves them.
        bests, partials: of all that counts in the segment, as for `survey`; written.
    """
    row = tl.program_id(0).to(tl.int64)
    begin = tl.program_id(1) * SEGMENT
    place = tl.load(places + row)
    if (begin > place) | ~is_active(tl.load(phases + row), mask):
        return
    lower = tl.load(lowers + row)
    for segment in range(1, place // SEGMENT + 1):
        lower = tl.maximum(lower, tl.load(lowers + tl.cast(segment, tl.int64) * n_rows + row))
    least = lower - MARGIN
    block_channel, channel = tl.arange(0, _BLOCK), tl.arange(0, VALUES)
    is_value = (channel < n_values)[None, :]
    spoken = tl.zeros((1, VALUES), tl.float64)
    if SPEAKS:
        said = tl.load(a_values + row * n_values + channel, channel < n_values, 0.0)
        spoken = said.to(tl.float64)[None, :]
    tau = tl.load(temperature).to(tl.float64)
    reach = tl.minimum(tl.load(reaches + row), n_taps)
    d = n_keys + n_values
    at_segment = tl.program_id(1).to(tl.int64) * n_rows + row
    out = partials + at_segment * n_values + channel
    best = tl.cast(_NEVER, tl.float64)
    total = tl.zeros((VALUES,), tl.float32)
    if BLUNT:
        best = tl.load(bests + at_segment)
        total = tl.load(out, channel < n_values, 0.0)
    table = block_tables + tl.load(owners + row) * n_pages_each
    for run in range(begin, min(begin + SEGMENT, place + 1), RUN):
        score = tl.load(scores + row * n_runs + run // RUN)
        if (score > _NEVER) & ~(score < least):
            page = tl.load(table + run // page_size).to(tl.int64)
            inside = run % page_size + tl.arange(0, RUN)
            memory = run + tl.arange(0, RUN)
            is_seen = memory <= place
            sums, squares = tl.zeros((RUN,), tl.float64), tl.zeros((RUN,), tl.float64)
            for block in range(n_blocks):
                key = block * _BLOCK + block_channel
                own = tl.load(a_keys + row * n_keys + key, key < n_keys, 0.0).to(tl.float64)
                entry = (page * n_blocks + block) * page_size + inside
                at = keys + entry[:, None] * _BLOCK + block_channel[None, :]
                held = widened(tl.load(at, is_seen[:, None], 0))
                pair = own[None, :] + held.to(tl.float64)
                sums += tl.sum(pair, 1)
                squares += tl.sum(pair * pair, 1)
            if TOLERANCE > 0:
                moment = moments + (page * 4 + 3) * page_size + inside
                theirs = tl.load(moment, is_seen, 0.0)
                theirs = tl.minimum(theirs, n_taps + 1.0).to(tl.int32)
                forgiven = tl.load(full + reach * (n_taps + 2) + theirs).to(tl.float64)
                squares = positive(squares - forgiven * TOLERANCE)
                sums = tl.zeros((RUN,), tl.float64)
            value = (page * page_size + inside)[:, None] * n_values + channel[None, :]
            is_held = is_seen[:, None] & is_value
            own_value = widened(tl.load(values + value, is_held, 0)).to(tl.float64)
            u = tl.where(is_held, spoken + own_value, 0.0)
            mean = (sums + tl.sum(u, 1)) / d
            variance = (squares + tl.sum(u * u, 1)) / d - mean * mean
            scale = tau / (tl.sqrt(positive(variance)) + EPS)
            older = tl.zeros((RUN,), tl.float64)
            if RECENCY > 0:
                older = tl.maximum(place - memory, 0).to(tl.float64)
                older = RECENCY * tl.log(1.0 + older)
            top = tl.max(tl.where(is_value, u, _NEVER), 1)
            top = tl.where(is_seen, (top - mean) * scale - older, _NEVER)
            # What is not a number is to stay so, whatever else there is.
            is_broken = tl.max(tl.where(is_seen & (top != top), 1, 0), 0) == 1
            of_all = tl.maximum(best, tl.max(tl.where(top == top, top, _INFINITE), 0))
            y = (u - mean[:, None]) * scale[:, None] - (older + of_all)[:, None]
            y = (y * _LOG2E).to(tl.float32)
            counts = is_held & (top >= of_all - MARGIN)[:, None] & (y >= _LEAST)
            weights = tl.sum(tl.where(counts, tl.exp2(y), 0.0), 0)
            total = total * relative(best, of_all) + weights
            total = tl.where(is_broken, float("nan"), total)
            best = of_all
    tl.store(bests + at_segment, best)
    tl.store(out, total, channel < n_values)


@triton.jit(do_not_specialize=VARYING)
def combine(
    bests, partials, matches, places, phases, out, match, n_rows, n_values, mask,
    TELLS: tl.constexpr, VALUES: tl.constexpr, SEGMENT: tl.constexpr,
):  # fmt: skip
    """Put the segments of each row together, relative to the best of all.

    Args:
        bests, partials, matches: as `read` and `survey` leave them.
        out: `[N, V]`, written.
        match: `[N]`, written if `TELLS`: the best match of each row.
    """
    row = tl.program_id(0).to(tl.int64)
    if is_active(tl.load(phases + row), mask):
        channel = tl.arange(0, VALUES)
        is_value = channel < n_values
        best = tl.cast(_NEVER, tl.float64)
        total, found = tl.zeros((VALUES,), tl.float32), tl.cast(0.0, tl.float32)
        for segment in range(tl.load(places + row) // SEGMENT + 1):
            at = tl.cast(segment, tl.int64) * n_rows + row
            if TELLS:
                found = tl.maximum(found, tl.load(matches + at))
            own = tl.load(bests + at)
            if own > _NEVER:
                more = tl.load(partials + at * n_values + channel, is_value, 0.0)
                of_all = tl.maximum(best, own)
                total = total * relative(best, of_all) + more * relative(own, of_all)
                best = of_all
        tl.store(out + row * n_values + channel, total, is_value)
        if TELLS:
            tl.store(match + row, found)


@triton.jit(do_not_specialize=VARYING)
def note_found(
    match, phases, reaches, starts, context_lens, slots, state_tables, found, n_pages_each,
    page_size, mask, SOURCE: tl.constexpr,
):  # fmt: skip
    """Let what is known of a sequence's turn go on with the matches of its new rows.

    Args:
        match: `[N]`, of active rows.
        found: `[n_states, 2]` float64, updated in place, also where pages fill: how many rows of
            the turn have read, and one minus the least of their matches.
    """
    sequence = tl.program_id(0)
    own = found + 2 * tl.load(slots + sequence).to(tl.int64)
    n_read, missed = tl.load(own), tl.load(own + 1)
    n_held = tl.load(context_lens + sequence)
    for row in range(tl.load(starts + sequence), tl.load(starts + sequence + 1)):
        phase = tl.load(phases + row)
        is_first = (phase == SOURCE) & (tl.load(reaches + row) == 0)
        n_read, missed = tl.where(is_first, 0.0, n_read), tl.where(is_first, 0.0, missed)
        if is_active(phase, mask):
            n_read += 1.0
            missed = tl.maximum(missed, 1.0 - tl.load(match + row).to(tl.float64))
        n_held += 1
        if n_held % page_size == 0:
            kept = tl.load(state_tables + sequence * n_pages_each + n_held // page_size - 1)
            if kept >= 0:
                other = found + 2 * kept.to(tl.int64)
                tl.store(other, n_read)
                tl.store(other + 1, missed)
    tl.store(own, n_read)
    tl.store(own + 1, missed)
