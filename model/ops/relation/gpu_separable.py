"""The separable relation on a device: exponentials of all rows at once, then their running sums.

The sums of a sequence are added to token by token, as on the CPU, so that no chunking changes a
bit. In place of float64 they are pairs of float32: what an addition loses goes to the second one.
"""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from causalrn.model.ops.gpu.tiles import ONE_WARP, VARYING
from causalrn.model.ops.norm.gpu import norm_rows

SCAN = {"CHANNELS": 32} | ONE_WARP  # a thread for each channel that a program adds up

_HALF = tl.constexpr(2.0**-24)


@triton.jit(do_not_specialize=VARYING)
def scan(
    a, b, starts, context_lens, slots, state_tables, sums, out, n_pages_each, page_size, n_channels,
    CHANNELS: tl.constexpr,
):  # fmt: skip
    """Let the sums of a sequence go on with its new rows, and read them after each.

    Args:
        a, b: `[N, R]`, exponentials of readers and memories.
        starts, context_lens, slots, state_tables: of the batch, int32.
        sums: `[n_states, R]` float64, updated in place; also where a page fills for which there is
            a row.
        out: `[N, R]`, written.
    """
    sequence = tl.program_id(0)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    is_channel = channel < n_channels
    state = sums + tl.load(slots + sequence).to(tl.int64) * n_channels + channel
    before = tl.load(state, is_channel, 0.0)
    high = before.to(tl.float32)
    low = (before - high.to(tl.float64)).to(tl.float32)
    row, end = tl.load(starts + sequence), tl.load(starts + sequence + 1)
    n_held = tl.load(context_lens + sequence)
    while row < end:
        # Up to the end of a page.
        n_new = min(end - row, page_size - n_held % page_size)
        for _ in range(n_new):
            at = row.to(tl.int64) * n_channels + channel
            more = tl.load(b + at, is_channel, 0.0)
            total = high + more
            back = total - high
            low += (high - (total - back)) + (more - back)
            # Both become what float64 can hold together: the second half has no bit below 2^-48.
            high = total + low
            low -= high - total
            unit = high * _HALF
            low = (low + unit) - unit
            n_held += 1
            mean = (high + low) / n_held
            tl.store(out + at, tl.load(a + at, is_channel, 0.0) * mean, is_channel)
            row += 1
        if n_held % page_size == 0:
            kept = tl.load(state_tables + sequence * n_pages_each + n_held // page_size - 1)
            if kept >= 0:
                full = high.to(tl.float64) + low.to(tl.float64)
                tl.store(sums + kept.to(tl.int64) * n_channels + channel, full, is_channel)
    tl.store(state, high.to(tl.float64) + low.to(tl.float64), is_channel)


def add_up(
    device: Any, sums: Tensor, page_size: int, n_heads: int, eps: float, a: Tensor, b: Tensor,
    out: Tensor,
) -> None:  # fmt: skip
    """Let the sums of sequences go on with the new rows of a step, and read them after each.

    Args:
        device: a `causalrn.model.backends.gpu_scratch.DeviceScratch` with the batch of the step.
        sums: `[n_states, R]` float64, updated in place.
        page_size, n_heads, eps: of pages, and of the relation.
        a, b: readers and memories, `[N, R]`, overwritten.
        out: `[N, R]`, written.
    """
    batch, width = device.batch, a.shape[1]
    for rows in (a, b):
        by_head = rows.view(-1, width // n_heads)
        norm_rows(by_head, by_head, eps, exp=True)
    scan[(len(batch.slots), triton.cdiv(width, SCAN["CHANNELS"]))](
        a, b, batch.starts, batch.context_lens, batch.slots, batch.state_tables, sums, out,
        batch.state_tables.shape[1], page_size, width, **SCAN,
    )  # fmt: skip
