"""The token shift of new rows on a device, and the tails that sequences keep of theirs."""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from causalrn.model.ops.gpu.tiles import VARYING

TAIL_NUMBERS = 2048  # that one program moves; more of them spill


@triton.jit
def _past(z, tail, row, n_new, n_back, n_kept, n_shifted, d, first, channel, is_channel):
    """The shifted channels `n_back` tokens before a row with `n_new` new ones before it."""
    if n_back <= n_new:
        found = tl.load(z + (row - n_back) * d + first + channel, is_channel, 0.0)
    else:
        place = n_kept + n_new - n_back
        found = tl.load(tail + place * n_shifted + channel, is_channel, 0.0)
    return found


@triton.jit(do_not_specialize=VARYING)
def shift(
    z, owners, starts, slots, reaches, taps, tails, out, n_rows, d, first, n_shifted, width,
    within_turn, OUTPUTS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Convolve each row with the taps of each of one output or two.

    Args:
        z: `[N, D]`, normalized rows.
        owners, starts, slots, reaches: of the batch, int32.
        taps: `[OUTPUTS, W, C]`, of the C channels from `first` on; the others pass unchanged.
        tails: `[n_states, W - 1, C]`.
        out: `[OUTPUTS, N, D]`, written.
        n_rows: N.
    """
    row = tl.program_id(0)
    sequence = tl.load(owners + row)
    n_new = row - tl.load(starts + sequence)
    reach = tl.load(reaches + row)
    n_taps = min(width, reach + 1) if within_turn else width
    row = row.to(tl.int64)
    channel = tl.arange(0, CHANNELS)
    whole = tl.load(z + row * d + channel, channel < d, 0.0)
    is_other = (channel < d) & ((channel < first) | (channel >= first + n_shifted))
    second_out = out + n_rows.to(tl.int64) * d
    tl.store(out + row * d + channel, whole, is_other)
    if OUTPUTS == 2:
        tl.store(second_out + row * d + channel, whole, is_other)
    is_shifted = channel < n_shifted
    own = tl.load(z + row * d + first + channel, is_shifted, 0.0)
    total = own * tl.load(taps + channel, is_shifted, 0.0)
    if OUTPUTS == 2:
        second = own * tl.load(taps + width * n_shifted + channel, is_shifted, 0.0)
    n_kept = width - 1
    tail = tails + tl.load(slots + sequence).to(tl.int64) * n_kept * n_shifted
    for tap in range(1, n_taps):
        past = _past(
            z, tail, row, n_new, tap, n_kept, n_shifted, d, first, channel, is_shifted
        )  # fmt: skip
        total += past * tl.load(taps + tap * n_shifted + channel, is_shifted, 0.0)
        if OUTPUTS == 2:
            second += past * tl.load(taps + (width + tap) * n_shifted + channel, is_shifted, 0.0)
    tl.store(out + row * d + first + channel, total, is_shifted)
    if OUTPUTS == 2:
        tl.store(second_out + row * d + first + channel, second, is_shifted)


@triton.jit(do_not_specialize=VARYING)
def keep_tails(
    z, starts, context_lens, slots, state_tables, tails, n_pages_each, page_size, d, first,
    n_shifted, n_kept, KEPT: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Let tails go on with the new rows of their sequences, and keep them where pages fill.

    A program has a sequence and some channels. What it writes to the sequence's own tail it has
    read before, all of it.
    """
    sequence = tl.program_id(0)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    number = tl.arange(0, KEPT)
    is_kept = (number < n_kept)[:, None] & (channel < n_shifted)[None, :]
    begin, end = tl.load(starts + sequence), tl.load(starts + sequence + 1)
    n_held = tl.load(context_lens + sequence)
    size = n_kept * n_shifted
    tail = tails + tl.load(slots + sequence).to(tl.int64) * size
    inside = number[:, None] * n_shifted + channel[None, :]
    last = n_held + end - begin
    for page in range(n_held // page_size, last // page_size):
        kept = tl.load(state_tables + sequence * n_pages_each + page)
        if kept >= 0:
            n_new = (page + 1) * page_size - n_held
            made = _tail_after(
                z, tail, begin, n_new, n_kept, n_shifted, d, first, number, channel, is_kept
            )
            tl.store(tails + kept.to(tl.int64) * size + inside, made, is_kept)
    made = _tail_after(
        z, tail, begin, end - begin, n_kept, n_shifted, d, first, number, channel, is_kept
    )
    tl.debug_barrier()
    tl.store(tail + inside, made, is_kept)


@triton.jit
def _tail_after(z, tail, begin, n_new, n_kept, n_shifted, d, first, number, channel, is_kept):
    """The tail `[KEPT, CHANNELS]` after so many new rows."""
    source = number + n_new - n_kept  # a new row, or, below 0, one of the tail before
    is_new = (source >= 0)[:, None]
    row = (begin + tl.maximum(source, 0)).to(tl.int64)
    new = tl.load(z + row[:, None] * d + first + channel[None, :], is_kept & is_new, 0.0)
    old = tl.maximum(tl.minimum(source + n_kept, n_kept - 1), 0)
    held = tl.load(
        tail + old[:, None] * n_shifted + channel[None, :], is_kept & (source < 0)[:, None], 0.0
    )
    return tl.where(is_new, new, held)


def shift_rows(
    device: Any,
    z: Tensor,
    taps: Tensor,
    tails: Tensor,
    out: Tensor,
    *,
    first: int = 0,
    within_turn: bool = False,
) -> None:
    """Convolve the new rows of a step.

    Args:
        device: a `causalrn.model.backends.gpu_scratch.DeviceScratch` with the batch of the step.
        z: `[N, D]`, normalized rows.
        taps: `[O, W, C]`, for O outputs, 1 or 2, of the C channels from `first` on.
        tails: `[n_states, W - 1, C]`.
        out: `[O, N, D]`, written.
        within_turn: whether taps stop at the border of a turn.
    """
    batch, (n, d), (n_outputs, width, n_shifted) = device.batch, z.shape, taps.shape
    shift[(n,)](
        z, batch.owners, batch.starts, batch.slots, batch.reaches, taps, tails, out, n, d, first,
        n_shifted, width, int(within_turn), OUTPUTS=n_outputs, CHANNELS=triton.next_power_of_2(d),
    )  # fmt: skip


def extend_tails(device: Any, z: Tensor, tails: Tensor, page_size: int, *, first: int = 0) -> None:
    """Let tails go on with the new rows of a step, and keep them where pages fill.

    Args:
        device, z, first: as for `shift_rows`.
        tails: `[n_states, W - 1, C]`, updated in place.
        page_size: of pages, in tokens.
    """
    batch, d, (_, n_kept, n_shifted) = device.batch, z.shape[1], tails.shape
    kept = triton.next_power_of_2(n_kept)
    channels = min(triton.next_power_of_2(n_shifted), max(16, TAIL_NUMBERS // kept))
    keep_tails[(len(batch.slots), triton.cdiv(n_shifted, channels))](
        z, batch.starts, batch.context_lens, batch.slots, batch.state_tables, tails,
        batch.state_tables.shape[1], page_size, d, first, n_shifted, n_kept, KEPT=kept,
        CHANNELS=channels,
    )  # fmt: skip
