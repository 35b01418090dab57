"""The keyed relation over whole sequences on a device, and its gradients.

A program has one reader, and goes through the memories that it sees, a run at a time, youngest
first. Gradients take two passes, as those of the normalized relation do: in one, a program has a
reader, and adds up what all its memories give it; in the other, a memory, and adds up what all its
readers do. So no two programs add to the same number, a sequence gets the same bits in any batch,
and nothing of size T² is stored.

*Precision.* Where the relation is sharp, an exponent of 10⁷ is to keep its first decimal place,
which float32 cannot. So each pair is looked at in float32 first, which bounds its exponent from
above, and only runs with a pair that may count beside the best of its reader are done in float64,
from the sums of keys to exponents. What is left of exponents then is their distance from the best
one, 64 at most, and their exponentials and sums are float32 again. Where the relation is blunt
(`causalrn.model.ops.relation.cpu_keyed_blunt`), nearly all pairs count, and float32 does for them,
but for runs with a pair that it cannot tell. A program finds out for itself, from the temperature,
so that the host need not wait for it.

*What it costs.* A look takes two operations in float32 for each key of a pair, three without a
tolerance, and four for each value if readers say something of these, which else are summed up once
for each memory. A run in float64 takes about as many again, and some eight for each value of a
pair; gradients some ten more for each value, and four for each key. A GPU does float64 at half the
rate of float32 (compute capabilities 8.0, 9.0, 10.0), or at a sixty-fourth (8.9). In a sharp
relation, few runs of a reader come to that. Training looks at each pair three times: forward, and
in both passes of gradients. A program reads all the rows that it looks at, T² of them in a pass;
most come from caches.

Common arguments: `a` `[B, T, R]`, or `[B, T, n_keys]` unless `SPEAKS`, and `b` `[B, T, R]`, readers
and memories, keys first; `moments` `[3, B·T]`, as `sum_values` leaves them; `reaches` `[B, T]`
int32; `energies` `[n_taps + 1]` float64, what tokens leave of keys that are nearer than so many;
`temperature` `[1]`; `bests` `[B, T]` float64, the largest exponent of each reader, infinite for
those that are not wanted; `length`, T; `n_groups`, B; `n_said`, channels of a reader. `SPEAKS`:
whether readers say anything of values. `RECENCY`, `TOLERANCE` and `EPS`: of the relation.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from causalrn.model.ops.gpu.tiles import ALL_REGISTERS, ONE_WARP, VARYING, positive
from causalrn.model.ops.relation.cpu_keyed_blunt import MOST_BLUNT
from causalrn.model.ops.relation.gpu import dwarfs
from causalrn.model.ops.relation.gpu_keyed import MARGIN, SLACK, ULP, keys_of, relative

_WARPS = 8
_LARGEST_RUN = 8  # a warp for each pair
_NUMBERS = 2560  # keys and values that a program takes at a time; with more, gradients spill

_LOG2E = tl.constexpr(1.4426950408889634)
_FAINT = tl.constexpr(1e-12)  # as on the CPU: a little more, for what rounding leaves of matches
_TINY = tl.constexpr(1e-30)  # variances below have squares that float32 has no normal numbers for
_MOST_BLUNT = tl.constexpr(MOST_BLUNT)
_NEVER = tl.constexpr(float("-inf"))
_INFINITE = tl.constexpr(float("inf"))


def keyed_tile(n_keys: int, n_values: int) -> dict[str, int]:
    """How many channels and others a program takes at a time.

    Args:
        n_keys, n_values: of a memory.
    """
    keys, values = keys_of(n_keys), triton.next_power_of_2(n_values)
    fitting = max(1, _NUMBERS // (keys + values))
    run = min(_LARGEST_RUN, 1 << (fitting.bit_length() - 1))
    return {"KEYS": keys, "VALUES": values, "RUN": run, "num_warps": _WARPS} | ALL_REGISTERS


@triton.jit
def _channels(x, rows, are_there, width, first, n_channels, CHANNELS: tl.constexpr):
    """`n_channels` channels of rows of `x` `[*, width]` from the first on, with zeros behind."""
    channel = tl.arange(0, CHANNELS)[None, :]
    at = rows[:, None] * width + first + channel
    return tl.load(x + at, are_there[:, None] & (channel < n_channels), 0.0)


@triton.jit
def _moments(values, is_value):
    """Of each row of values: their sum, the sum of their squares, and the largest of them."""
    top = tl.max(tl.where(is_value, values, _NEVER), 1)
    return tl.sum(values, 1), tl.sum(values * values, 1), top


@triton.jit(do_not_specialize=VARYING)
def sum_values(b, moments, n_rows, n_keys, n_values, VALUES: tl.constexpr):
    """Write the moments of the values of each memory; one program for each."""
    row = tl.program_id(0).to(tl.int64) + tl.arange(0, 1)
    values = _channels(b, row, row >= 0, n_keys + n_values, n_keys, n_values, VALUES)
    total, squares, top = _moments(values, (tl.arange(0, VALUES) < n_values)[None, :])
    tl.store(moments + row, total)
    tl.store(moments + n_rows + row, squares)
    tl.store(moments + 2 * n_rows + row, top)


@triton.jit
def _forgiven(energies, of_readers, of_memories, n_taps, TOLERANCE: tl.constexpr):
    """How much of the squares of keys counts as nothing, in float64, given the reaches of both."""
    of_memory = tl.load(energies + tl.minimum(tl.maximum(of_memories - 1, 0), n_taps))
    of_reader = tl.load(energies + tl.minimum(of_readers, n_taps))
    faint = tl.load(energies + 1) * _FAINT
    return (tl.maximum(of_memory - of_reader, 0.0) + faint) * TOLERANCE


@triton.jit
def _older(ages, RECENCY: tl.constexpr):
    """What is taken off exponents for age, in the type of ages."""
    older = ages * 0.0
    if RECENCY > 0:
        older = tl.log(ages + 1.0) * RECENCY
    return older


@triton.jit
def _is_blunt(tau, d, RECENCY: tl.constexpr, TOLERANCE: tl.constexpr):
    """As `causalrn.model.ops.relation.cpu_keyed_blunt.is_blunt`; 0 or 1."""
    blunt = tl.cast(0, tl.int32)
    if RECENCY == 0 and TOLERANCE == 0:
        largest = tau * (tl.sqrt(d - 1.0) + 2.0)
        blunt = tl.where(largest >= 0.0, 1, 0) * tl.where(largest <= _MOST_BLUNT, 1, 0)
    return blunt


@triton.jit
def _look(
    keys, of_values, squares, top, forgiven, older, tau, d, TOLERANCE: tl.constexpr,
    EPS: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """What float32 tells of pairs.

    Args:
        keys: of pairs, `[N, KEYS]`.
        of_values, squares, top: the moments of their values.

    Returns:
        Their means and variances; whether float32 can tell these; and what their largest exponents
        come to at most. All `[N]`.
    """
    left = tl.sum(keys * keys, 1)
    least, most, total = left, left, of_values
    if TOLERANCE > 0:
        off = (KEYS + 4) * ULP
        least = positive(left * (1 - off) - forgiven * (1 + off))
        most = positive(left * (1 + off) - forgiven * (1 - off))
    else:
        total += tl.sum(keys, 1)
    mean = total / d
    less = (least + squares) / d - mean * mean
    more = (most + squares) / d - mean * mean
    is_told = ~dwarfs(mean, less) & (less >= _TINY)
    above = (top - mean) * tau
    above = tl.maximum(above / (tl.sqrt(less) + EPS), above / (tl.sqrt(more) + EPS))
    # A largest value that is next to the mean says nothing of what rounding took from both.
    above += (tl.abs(above) + tau) * SLACK - older * (1 - SLACK)
    return mean, less, is_told, tl.where(is_told, above, _INFINITE)


@triton.jit
def _exact(keys, values, forgiven, d, TOLERANCE: tl.constexpr):
    """In float64, as pairs are given: means and variances of pairs, and what their keys leave."""
    left, total = tl.sum(keys * keys, 1), tl.sum(values, 1)
    if TOLERANCE > 0:
        left = positive(left - forgiven)
    else:
        total += tl.sum(keys, 1)
    mean = total / d
    variance = (left + tl.sum(values * values, 1)) / d - mean * mean
    return mean, positive(variance), left


@triton.jit
def _exponents(values, mean, variance, older, tau, is_value, EPS: tl.constexpr):
    """Of the values of pairs, and the largest of each pair, in the type of these."""
    scale = tau / (tl.sqrt(variance) + EPS)
    # A GPU leaves what is not a number out of a maximum, but the mean or the scale has it.
    top = tl.max(tl.where(is_value, values, _NEVER), 1)
    y = (values - mean[:, None]) * scale[:, None] - older[:, None]
    return y, (top - mean) * scale - older


@triton.jit(do_not_specialize=VARYING)
def relate_keyed(
    a, b, moments, active, reaches, energies, temperature, out, bests, length, n_groups, n_keys,
    n_values, n_said, n_taps, SPEAKS: tl.constexpr, RECENCY: tl.constexpr, TOLERANCE: tl.constexpr,
    EPS: tl.constexpr, KEYS: tl.constexpr, VALUES: tl.constexpr, RUN: tl.constexpr,
):  # fmt: skip
    """Write what readers read to `out` `[B, T, n_values]`, and the largest of their exponents.

    Args:
        active: `[B, T]` int32, of readers: whether they are wanted. The others get zeros.
    """
    # The last readers of all sequences come first, since they have most to do.
    place = length - 1 - tl.program_id(0) // n_groups
    begin = (tl.program_id(0) % n_groups).to(tl.int64) * length
    row, n_rows = begin + place, length.to(tl.int64) * n_groups
    one, d = row + tl.arange(0, 1), tl.cast(n_keys, tl.int32) + n_values
    channel = tl.arange(0, VALUES)
    is_value = (channel < n_values)[None, :]
    best = tl.cast(_INFINITE, tl.float64)
    total = tl.zeros((RUN, VALUES), tl.float32)
    if tl.load(active + row) != 0:
        best = tl.cast(_NEVER, tl.float64)
        tau = tl.load(temperature)
        blunt = _is_blunt(tau, d, RECENCY, TOLERANCE)
        own_keys = _channels(a, one, one >= 0, n_said, 0, n_keys, KEYS)
        spoken = tl.zeros((1, VALUES), tl.float32)
        reach = tl.cast(0, tl.int32)
        if SPEAKS:
            spoken = _channels(a, one, one >= 0, n_said, n_keys, n_values, VALUES)
        if TOLERANCE > 0:
            reach = tl.load(reaches + row)
        last = place // RUN
        for number in range(last + 1):
            memory = (last - number) * RUN + tl.arange(0, RUN)
            is_seen = memory <= place
            others = begin + memory
            held = _channels(b, others, is_seen, d, 0, n_keys, KEYS)
            forgiven = tl.zeros((RUN,), tl.float64)
            if TOLERANCE > 0:
                theirs = tl.load(reaches + others, is_seen, 0)
                forgiven = _forgiven(energies, reach, theirs, n_taps, TOLERANCE)
            if SPEAKS:
                said = spoken + _channels(b, others, is_seen, d, n_keys, n_values, VALUES)
                of_values, squares, top = _moments(said, is_value)
            else:
                of_values = tl.load(moments + others, is_seen, 0.0)
                squares = tl.load(moments + n_rows + others, is_seen, 0.0)
                top = tl.load(moments + 2 * n_rows + others, is_seen, 0.0)
            ages = tl.maximum(place - memory, 0)
            older = _older(ages.to(tl.float32), RECENCY)
            mean, variance, is_told, above = _look(
                own_keys + held, of_values, squares, top, forgiven.to(tl.float32), older, tau, d,
                TOLERANCE, EPS, KEYS,
            )  # fmt: skip
            may_count = is_seen & ~(above < best - MARGIN)
            if tl.max(tl.where(may_count, 1, 0), 0) > 0:
                values = _channels(b, others, is_seen, d, n_keys, n_values, VALUES)
                n_hard = tl.max(tl.where(is_seen & ~is_told, 1, 0), 0)
                if blunt * (1 - n_hard) > 0:
                    y, tops = _exponents(
                        spoken + values, mean, variance, older, tau, is_value, EPS
                    )  # fmt: skip
                    tops = tops.to(tl.float64)
                    of_all = tl.maximum(best, tl.max(tl.where(is_seen, tops, _NEVER), 0))
                    y = (y - of_all.to(tl.float32)) * _LOG2E
                else:
                    pair = own_keys.to(tl.float64) + held.to(tl.float64)
                    u = spoken.to(tl.float64) + values.to(tl.float64)
                    mean64, variance64, _ = _exact(pair, u, forgiven, d, TOLERANCE)
                    y64, tops = _exponents(
                        u, mean64, variance64, _older(ages.to(tl.float64), RECENCY),
                        tau.to(tl.float64), is_value, EPS,
                    )  # fmt: skip
                    # What is not a number stays so in sums, and says nothing of the best.
                    is_number = is_seen & (tops == tops)
                    of_all = tl.maximum(best, tl.max(tl.where(is_number, tops, _NEVER), 0))
                    y = ((y64 - of_all) * _LOG2E).to(tl.float32)
                counts = (is_seen & ~(tops < of_all - MARGIN))[:, None] & is_value
                weights = tl.where(counts, tl.exp2(y), 0.0)
                total = total * relative(best, of_all) + weights
                best = of_all
    tl.store(bests + row, best)
    tl.store(out + row * n_values + channel, tl.sum(total, 0), channel < n_values)


@triton.jit
def _changes(
    keys, values, mean, variance, left, given, tau, d, is_value, TOLERANCE: tl.constexpr,
    EPS: tl.constexpr,
):  # fmt: skip
    """The gradients of pairs, in the type of these, given the gradients of their exponents.

    Returns:
        Of their keys and values; and of their temperature, `[N]`.
    """
    deviation = tl.sqrt(variance)
    inv = 1.0 / (deviation + EPS)
    u = tl.where(is_value, values - mean[:, None], 0.0)
    dot = tl.sum(given * u, 1) * inv
    # d(pair) = τ·inv·(y - mean(y)) - curve·(u - mean(u)); y is zero on keys. With a tolerance, keys
    # are no part of the means.
    curve = tl.where(deviation > 0.0, tau * inv * dot / d / deviation, 0.0)
    level = tau * inv * tl.sum(given, 1) / d
    if TOLERANCE > 0:
        of_keys = -tl.where(left > 0.0, curve, 0.0)[:, None] * keys
    else:
        of_keys = -level[:, None] - curve[:, None] * (keys - mean[:, None])
    of_values = (tau * inv)[:, None] * given - level[:, None] - curve[:, None] * u
    return of_keys, of_values, dot


@triton.jit(do_not_specialize=VARYING)
def add_keyed_gradients(
    a, b, moments, reaches, energies, temperature, bests, g, change, slopes, length, n_groups,
    n_keys, n_values, n_said, n_taps, OF_READERS: tl.constexpr, SPEAKS: tl.constexpr,
    RECENCY: tl.constexpr, TOLERANCE: tl.constexpr, EPS: tl.constexpr, KEYS: tl.constexpr,
    VALUES: tl.constexpr, RUN: tl.constexpr,
):  # fmt: skip
    """Write the gradient of `relate_keyed` with respect to readers, or to memories.

    Args:
        g: `[B, T, n_values]`, that of its result.
        change: as `a`, or as `b`, written.
        slopes: `[B, T]` float64, what each reader gives the temperature; written by readers.
        OF_READERS: whether a program's own row is a reader and the others memories, or the other
            way round.
    """
    place = tl.program_id(0) // n_groups
    if OF_READERS:  # those who have most to do come first
        place = length - 1 - place
    begin = (tl.program_id(0) % n_groups).to(tl.int64) * length
    row, n_rows = begin + place, length.to(tl.int64) * n_groups
    one, d = row + tl.arange(0, 1), tl.cast(n_keys, tl.int32) + n_values
    key, channel = tl.arange(0, KEYS), tl.arange(0, VALUES)
    is_value = (channel < n_values)[None, :]
    tau = tl.load(temperature)
    blunt = _is_blunt(tau, d, RECENCY, TOLERANCE)
    own_side, own_width, other_side, other_width = b, d, a, n_said
    if OF_READERS:
        own_side, own_width, other_side, other_width = a, n_said, b, d
    own_keys = _channels(own_side, one, one >= 0, own_width, 0, n_keys, KEYS)
    own_values = tl.zeros((1, VALUES), tl.float32)
    if SPEAKS or not OF_READERS:
        own_values = _channels(own_side, one, one >= 0, own_width, n_keys, n_values, VALUES)
    own_total, own_squares, own_top = _moments(own_values, is_value)
    reach = tl.cast(0, tl.int32)
    if TOLERANCE > 0:
        reach = tl.load(reaches + row)
    own_best, of_result = tl.zeros((1,), tl.float64), tl.zeros((1, VALUES), tl.float32)
    first, end = place, length
    if OF_READERS:
        first, end = 0, place + 1
        own_best = tl.load(bests + one)
        of_result = _channels(g, one, one >= 0, n_values, 0, n_values, VALUES)
    of_keys, of_values = tl.zeros((RUN, KEYS), tl.float32), tl.zeros((RUN, VALUES), tl.float32)
    slope = tl.zeros((RUN,), tl.float64)
    for run in range(first, end, RUN):
        other = run + tl.arange(0, RUN)
        others = begin + other
        best = own_best
        if not OF_READERS:
            best = tl.load(bests + others, other < end, _INFINITE)
        is_seen = (other < end) & (best < _INFINITE)
        if tl.max(tl.where(is_seen, 1, 0), 0) > 0:
            held = _channels(other_side, others, is_seen, other_width, 0, n_keys, KEYS)
            forgiven = tl.zeros((RUN,), tl.float64)
            if TOLERANCE > 0:
                theirs = tl.load(reaches + others, is_seen, 0)
                if OF_READERS:
                    forgiven = _forgiven(energies, reach, theirs, n_taps, TOLERANCE)
                else:
                    forgiven = _forgiven(energies, theirs, reach, n_taps, TOLERANCE)
            total, squares, top = own_total, own_squares, own_top
            if SPEAKS:
                said = _channels(
                    other_side, others, is_seen, other_width, n_keys, n_values, VALUES
                )  # fmt: skip
                total, squares, top = _moments(own_values + said, is_value)
            elif OF_READERS:
                total = tl.load(moments + others, is_seen, 0.0)
                squares = tl.load(moments + n_rows + others, is_seen, 0.0)
                top = tl.load(moments + 2 * n_rows + others, is_seen, 0.0)
            ages = (place - other) if OF_READERS else (other - place)
            ages = tl.maximum(ages, 0)
            older = _older(ages.to(tl.float32), RECENCY)
            mean, variance, is_told, above = _look(
                own_keys + held, total, squares, top, forgiven.to(tl.float32), older, tau, d,
                TOLERANCE, EPS, KEYS,
            )  # fmt: skip
            may_count = is_seen & ~(above < best - MARGIN)
            if tl.max(tl.where(may_count, 1, 0), 0) > 0:
                others_values = tl.zeros((1, VALUES), tl.float32)
                if SPEAKS or OF_READERS:
                    others_values = _channels(
                        other_side, others, is_seen, other_width, n_keys, n_values, VALUES
                    )
                given = of_result
                if not OF_READERS:
                    given = _channels(g, others, is_seen, n_values, 0, n_values, VALUES)
                n_hard = tl.max(tl.where(is_seen & ~is_told, 1, 0), 0)
                if blunt * (1 - n_hard) > 0:
                    values = own_values + others_values
                    y, tops32 = _exponents(values, mean, variance, older, tau, is_value, EPS)
                    y = (y - best.to(tl.float32)[:, None]) * _LOG2E
                    tops = tops32.to(tl.float64)
                    counts = is_seen & ~(tops < best - MARGIN)
                    y = tl.where(counts[:, None] & is_value, tl.exp2(y), 0.0)
                    more_keys, more_values, more32 = _changes(
                        own_keys + held, values, mean, variance, mean, given * y, tau, d, is_value,
                        TOLERANCE, EPS,
                    )  # fmt: skip
                    more = more32.to(tl.float64)
                else:
                    pair = own_keys.to(tl.float64) + held.to(tl.float64)
                    u = own_values.to(tl.float64) + others_values.to(tl.float64)
                    tau64 = tau.to(tl.float64)
                    mean64, variance64, left = _exact(pair, u, forgiven, d, TOLERANCE)
                    y64, tops = _exponents(
                        u, mean64, variance64, _older(ages.to(tl.float64), RECENCY), tau64,
                        is_value, EPS,
                    )  # fmt: skip
                    counts = is_seen & ~(tops < best - MARGIN)
                    y = ((y64 - best[:, None]) * _LOG2E).to(tl.float32)
                    y = tl.where(counts[:, None] & is_value, tl.exp2(y), 0.0)
                    keys64, values64, more = _changes(
                        pair, u, mean64, variance64, left, given.to(tl.float64) * y.to(tl.float64),
                        tau64, d, is_value, TOLERANCE, EPS,
                    )  # fmt: skip
                    more_keys, more_values = keys64.to(tl.float32), values64.to(tl.float32)
                of_keys += tl.where(counts[:, None], more_keys, 0.0)
                of_values += tl.where(counts[:, None], more_values, 0.0)
                slope += tl.where(counts, more, 0.0)
    to = change + row * own_width
    tl.store(to + key, tl.sum(of_keys, 0), key < n_keys)
    if SPEAKS or not OF_READERS:
        tl.store(to + n_keys + channel, tl.sum(of_values, 0), channel < n_values)
    if OF_READERS:
        tl.store(slopes + row, tl.sum(slope, 0))


def keyed_relation(
    a: Tensor,
    b: Tensor,
    temperature: Tensor,
    *,
    d_value: int,
    recency: float,
    eps: float,
    active: Tensor | None,
    tolerance: float,
    reaches: Tensor | None,
    energy: Tensor | None,
) -> Tensor:
    """See `causalrn.model.ops.relation.keyed`; differentiable."""
    wanted = torch.ones(a.shape[:2], device=a.device) if active is None else active
    numbers = {"RECENCY": float(recency), "TOLERANCE": float(tolerance), "EPS": float(eps)}
    result: Tensor = _KeyedRelation.apply(  # type: ignore[no-untyped-call]
        a.contiguous(), b.contiguous(), temperature, wanted.int(),
        None if reaches is None else reaches.int(), energy, d_value, numbers,
    )  # fmt: skip
    return result


def _energies(energy: Tensor) -> Tensor:
    """Sums of the first ones of `energy` `[n_taps]`, from none of them to all, in float64."""
    taps = torch.arange(len(energy) + 1, device=energy.device)
    return (energy.double() * (taps[:-1] < taps[:, None])).sum(1)


class _KeyedRelation(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        b: Tensor,
        temperature: Tensor,
        active: Tensor,
        reaches: Tensor | None,
        energy: Tensor | None,
        d_value: int,
        numbers: dict[str, float],
    ) -> Tensor:
        batch, length, width = b.shape
        tau, n_keys, n_rows = temperature.reshape(1), width - d_value, batch * length
        tile = keyed_tile(n_keys, d_value)
        speaks = a.shape[2] > n_keys
        moments = b.new_empty(3, n_rows)
        if not speaks:
            sum_values[(n_rows,)](
                b, moments, n_rows, n_keys, d_value, VALUES=tile["VALUES"], **ONE_WARP
            )
        out = b.new_empty(batch, length, d_value)
        bests = out.new_empty(batch, length, dtype=torch.float64)
        # What a relation without a tolerance does not look at is anything of the same type.
        reaches = active if reaches is None else reaches
        energies = bests if energy is None else _energies(energy)
        n_taps = 1 if energy is None else len(energy)
        ctx.sizes = length, batch, n_keys, d_value, a.shape[2], n_taps
        ctx.how = {"SPEAKS": speaks} | numbers | tile
        relate_keyed[(n_rows,)](
            a, b, moments, active, reaches, energies, tau, out, bests, *ctx.sizes, **ctx.how
        )
        ctx.save_for_backward(a, b, moments, reaches, energies, tau, bests)
        ctx.shape = temperature.shape
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        given = ctx.saved_tensors
        a, b, *_, tau, bests = given
        g = grads[0].contiguous()
        da, db, slopes = torch.empty_like(a), torch.empty_like(b), torch.empty_like(bests)
        for change, of_readers in ((da, True), (db, False)):
            add_keyed_gradients[(slopes.numel(),)](
                *given, g, change, slopes, *ctx.sizes, OF_READERS=of_readers, **ctx.how
            )
        dt = slopes.sum().to(tau).view(ctx.shape)
        return da, db, dt, None, None, None, None, None
