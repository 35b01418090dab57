"""Draws on a device: one token from each row of logits.

They are chosen as `causalrn.model.sampling.Sampler` chooses.

Logits are changed and narrowed down in float64, so the same ids remain as on the CPU. What follows
is done in whole numbers, which no order of adding up rounds: the weights of ids, in units of 2^-40
of the largest, and a draw from their sum by a generator that has no state, so that the same key and
number draw the same from the same logits, whatever else is drawn.
"""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from causalrn.model.draws import LARGEST
from causalrn.model.ops.gpu.tiles import ALL_REGISTERS

N_BITS = 63  # of a number whose sign does not count

_UNITS = tl.constexpr(2.0**40)  # of a largest weight: the sum of all stays far below 2^63
_LARGEST = tl.constexpr(LARGEST)
_NEVER = tl.constexpr(float("-inf"))
_BITS = tl.constexpr(N_BITS)


@triton.jit
def change(logits, changes, first, end, place, LOGITS: tl.constexpr):
    """Float64 logits with the changes from `first` to `end`; see `causalrn.model.draws.Changes`."""
    factor = tl.full((LOGITS,), 1.0, tl.float64)
    taken, added = tl.zeros((LOGITS,), tl.float64), tl.zeros((LOGITS,), tl.float64)
    for one in range(first, end):
        is_it = place == tl.load(changes + 4 * one).to(tl.int32)
        factor = tl.where(is_it, tl.load(changes + 4 * one + 1), factor)
        taken = tl.where(is_it, tl.load(changes + 4 * one + 2), taken)
        added = tl.where(is_it, tl.load(changes + 4 * one + 3), added)
    changed = tl.where(logits > 0, logits / factor, logits * factor)
    return tl.minimum(tl.maximum(changed, -_LARGEST), _LARGEST) - taken + added


@triton.jit
def _are_first(distance, amounts, goal):
    """Whether ids are among the fewest whose amounts reach a goal, by distance and then by id."""
    low, high = tl.cast(0, tl.int64), tl.max(distance, 0)
    for _ in range(_BITS):
        middle = low + (high - low) // 2
        is_reached = tl.sum(tl.where(distance <= middle, amounts, 0), 0) >= goal
        low, high = tl.where(is_reached, low, middle + 1), tl.where(is_reached, middle, high)
        low = tl.minimum(low, high)
    nearer = tl.sum(tl.where(distance < low, amounts, 0), 0)
    tied = tl.where(distance == low, amounts, 0)
    before = nearer + tl.cumsum(tied, 0) - tied
    return (distance < low) | ((distance == low) & (before < goal))


@triton.jit
def weigh(logits, temperature, top_k, top_p, min_p, LOGITS: tl.constexpr):
    """Whole weights of ids, 0 for those that are cut off, from float64 logits, some of them -inf.

    Args:
        temperature: above 0.
        top_k, top_p, min_p: see `causalrn.model.sampling.SamplingParams`.
    """
    scaled = (logits - tl.max(logits, 0)) / temperature
    shares = tl.exp(scaled)
    weights = tl.where(shares >= min_p, (shares * _UNITS + 0.5).to(tl.int64), 0)
    distance = tl.abs(scaled).to(tl.int64, bitcast=True)
    if top_k > 0:
        each = tl.full((LOGITS,), 1, tl.int64)
        weights = tl.where(_are_first(distance, each, top_k), weights, 0)
    if top_p < 1:
        goal = tl.ceil(top_p * tl.sum(weights, 0).to(tl.float64)).to(tl.int64)
        weights = tl.where(_are_first(distance, weights, goal), weights, 0)
    return weights


@triton.jit
def draw(logits, likeliest, whole, shares, changes, chosen, n_logits, LOGITS: tl.constexpr):
    """Choose a token.

    Args:
        logits, likeliest: `[M, V]` and `[M]`, as `classify` leaves them.
        whole, shares, changes: see `causalrn.model.backends.gpu_inputs.DeviceDraws`.
        chosen: `[D]`, written; -1 if not all of the row is finite.
    """
    number = tl.program_id(0)
    whole += 6 * number
    shares += 3 * number
    row = tl.load(whole)
    found = tl.cast(-1, tl.int64)
    if tl.load(likeliest + row) >= 0:
        place = tl.arange(0, LOGITS)
        own = tl.load(logits + row * n_logits + place, place < n_logits, 0.0).to(tl.float64)
        own = change(own, changes, tl.load(whole + 1), tl.load(whole + 2), place, LOGITS)
        own = tl.where(place < n_logits, own, _NEVER)
        temperature = tl.load(shares)
        if temperature > 0:
            top_p, min_p = tl.load(shares + 1), tl.load(shares + 2)
            weights = weigh(own, temperature, tl.load(whole + 3), top_p, min_p, LOGITS)
            total = tl.sum(weights, 0).to(tl.uint64)
            high, low, _, _ = tl.randint4x(tl.load(whole + 4), tl.load(whole + 5))
            uniform = (high.to(tl.uint64) << 32) | low.to(tl.uint64)
            goal = tl.umulhi(uniform, total).to(tl.int64)
            found = tl.sum(tl.where(tl.cumsum(weights, 0) <= goal, 1, 0), 0).to(tl.int64)
        else:
            found = tl.min(tl.where(own == tl.max(own, 0), place, LOGITS), 0).to(tl.int64)
    tl.store(chosen + number, found)


def make_draws(logits: Tensor, likeliest: Tensor, draws: Any, chosen: Tensor) -> None:
    """Choose tokens from the logits of a step.

    Args:
        logits, likeliest, chosen: as for `draw`.
        draws: a `causalrn.model.backends.gpu_inputs.DeviceDraws`.
    """
    n_logits = logits.shape[1]
    draw[(len(chosen),)](
        logits, likeliest, draws.whole, draws.shares, draws.changes, chosen, n_logits,
        LOGITS=triton.next_power_of_2(n_logits), **ALL_REGISTERS,
    )  # fmt: skip
