"""Rows of whole sequences on a device, laid out channel by channel, and back.

Neighbouring threads can then have neighbouring rows, and all of them the same channel. A sequence
and head is `[D, W]` so: D is the number of channels up to a multiple of `DEPTH`, and W the length
up to a multiple of `WIDTH`. What is beyond is zero.

Common arguments: `x`, rows `[B, T, H, K]`, float32; `turned`, the same `[B·H, D, W]`; `length`, T;
`n_groups`, B·H; `n_heads`, H; `n_channels`, K.
"""

import triton
import triton.language as tl
from torch import Tensor

from causalrn.model.ops.gpu.tiles import VARYING
from causalrn.model.ops.relation.gpu import sum_of

WIDTH, DEPTH = 64, 4

_NUMBERS = 4096  # of a tile: 32 for a thread
_FEWEST = 8  # rows beside each other, which are the least that memory transfers: 32 bytes


def tile_of(channels: int) -> dict[str, int]:
    """How many rows a program has, with all their channels, and how many warps.

    Args:
        channels: of a head.
    """
    channels = max(DEPTH, triton.next_power_of_2(channels))
    rows = min(WIDTH, max(_FEWEST, _NUMBERS // channels))
    warps = max(4, rows * channels // 1024)
    return {
        "WIDTH": WIDTH, "DEPTH": DEPTH, "CHANNELS": channels, "ROWS": rows, "num_warps": warps,
    }  # fmt: skip


@triton.jit
def _tile(
    x, turned, length, n_groups, n_heads, n_channels, WIDTH: tl.constexpr, DEPTH: tl.constexpr,
    CHANNELS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Where the rows of a program are.

    Returns:
        Pointers `[ROWS, CHANNELS]` to `x` and to `turned`; which of those to `x` and, `[1,
        CHANNELS]`, to `turned` are to a number that there is; the places of the rows `[ROWS]`;
        and how many numbers of W for each sequence and head come before.
    """
    begin, group = tl.program_id(0) // n_groups * ROWS, tl.program_id(0) % n_groups
    place, channel = begin + tl.arange(0, ROWS), tl.arange(0, CHANNELS)[None, :]
    width = tl.cdiv(length, WIDTH) * WIDTH
    sequence, head = tl.cast(group // n_heads, tl.int64), group % n_heads
    in_x = ((sequence * length + begin) * n_heads + head) * n_channels
    in_x += tl.arange(0, ROWS)[:, None] * n_heads * n_channels + channel
    depth = tl.cdiv(n_channels, DEPTH) * DEPTH
    in_turned = tl.cast(group, tl.int64) * depth * width + channel * width + place[:, None]
    is_there = (channel < n_channels) & (place < length)[:, None]
    return x + in_x, turned + in_turned, is_there, channel < depth, place, group * width


@triton.jit(do_not_specialize=VARYING)
def turn(
    x, turned, totals, length, n_groups, n_heads, n_channels, DIVIDES: tl.constexpr,
    WIDTH: tl.constexpr, DEPTH: tl.constexpr, CHANNELS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Lay rows out channel by channel.

    Args:
        turned: written.
        totals: `[2, B·H, W]` float32, the sums of rows, see `sum_of`. Of a row that is not finite
            they are no number, and it becomes zeros: only who counts it is to notice.
        DIVIDES: whether to divide each row by its place, counted from 1, and to write no totals.
    """
    rows, columns, is_there, is_kept, place, before = _tile(
        x, turned, length, n_groups, n_heads, n_channels, WIDTH, DEPTH, CHANNELS, ROWS
    )  # fmt: skip
    found = tl.load(rows, is_there, 0.0)
    if DIVIDES:
        found /= (place + 1)[:, None]
    else:
        high, low = sum_of(found)
        is_finite = tl.abs(high) < float("inf")
        found = tl.where(is_finite[:, None], found, 0.0)
        totals += before + place
        tl.store(totals, tl.where(is_finite, high, float("nan")))
        tl.store(totals + n_groups * tl.cdiv(length, WIDTH) * WIDTH, low)
    tl.store(columns, found, is_kept)


@triton.jit(do_not_specialize=VARYING)
def turn_back(
    turned, x, length, n_groups, n_heads, n_channels, CENTRES: tl.constexpr, WIDTH: tl.constexpr,
    DEPTH: tl.constexpr, CHANNELS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Write rows that are laid out channel by channel to `x`.

    Args:
        CENTRES: whether to take its mean over channels from each row; if not, it is divided by its
            place, counted from 1.
    """
    rows, columns, is_there, _, place, _ = _tile(
        x, turned, length, n_groups, n_heads, n_channels, WIDTH, DEPTH, CHANNELS, ROWS
    )  # fmt: skip
    found = tl.load(columns, is_there, 0.0)
    if CENTRES:
        found -= (tl.sum(found, 1) / n_channels)[:, None]
    else:
        found /= (place + 1)[:, None]
    tl.store(rows, found, is_there)


def turned(x: Tensor, *, divides: bool = False) -> tuple[Tensor, Tensor]:
    """Rows `[B, T, H, K]` laid out channel by channel `[B·H, D, W]`, and totals; see `turn`."""
    batch, length, heads, k = x.shape
    groups, width = batch * heads, triton.cdiv(length, WIDTH) * WIDTH
    tile = tile_of(k)
    depth = triton.cdiv(k, DEPTH) * DEPTH
    columns, totals = x.new_empty(groups, depth, width), x.new_empty(2, groups, width)
    turn[(width // tile["ROWS"] * groups,)](
        x.contiguous(), columns, totals, length, groups, heads, k, DIVIDES=divides, **tile
    )
    return columns, totals


def turned_back(columns: Tensor, like: Tensor, *, centres: bool) -> Tensor:
    """Of columns `[B·H, D, W]`, rows `[B, T, H, K]` like others; see `turn_back`."""
    _, length, heads, k = like.shape
    groups, _, width = columns.shape
    tile = tile_of(k)
    rows = columns.new_empty(like.shape)
    turn_back[(width // tile["ROWS"] * groups,)](
        columns, rows, length, groups, heads, k, CENTRES=centres, **tile
    )
    return rows
