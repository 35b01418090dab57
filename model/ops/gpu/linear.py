"""Matrix products of the new rows of a step, and what comes before and behind them."""

import triton
import triton.language as tl
from torch import Tensor

from causalrn.model.ops.gpu.tiles import VARYING, gelu, is_active
from causalrn.model.ops.positions import EVERY_PHASE

ROWS, OUT, IN = 16, 32, 64  # of a tile; a product of fewer rows is no faster
OPTIONS = {"num_warps": 4}  # with twice as many, the assembler aims at fewer registers, and spills


@triton.jit(do_not_specialize=VARYING)
def product(
    x, rows, weight, bias, phases, out, n_rows, n_in, n_out, mask, GATHERS: tl.constexpr,
    HAS_BIAS: tl.constexpr, GELU: tl.constexpr, ADDS: tl.constexpr, ROWS: tl.constexpr,
    OUT: tl.constexpr, IN: tl.constexpr,
):  # fmt: skip
    """One tile of `multiply`."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * OUT + tl.arange(0, OUT)
    is_row, is_out = row < n_rows, channel < n_out
    source = row
    if GATHERS:
        source = tl.load(rows + row, is_row, 0)
    total = tl.zeros((ROWS, OUT), tl.float32)
    for first in range(0, n_in, IN):
        own = first + tl.arange(0, IN)
        is_in = own < n_in
        inputs = tl.load(
            x + source[:, None] * n_in + own[None, :], is_row[:, None] & is_in[None, :], 0.0
        )
        weights = tl.load(
            weight + channel[:, None] * n_in + own[None, :], is_out[:, None] & is_in[None, :], 0.0
        )
        total = tl.dot(inputs, tl.trans(weights), total, input_precision="ieee")
    if HAS_BIAS:
        total += tl.load(bias + channel, is_out, 0.0)[None, :]
    if GELU:
        total = gelu(total)
    place = out + row[:, None] * n_out + channel[None, :]
    is_wanted = is_row[:, None] & is_out[None, :]
    if ADDS:
        is_wanted = is_wanted & is_active(tl.load(phases + row, is_row, 0), mask)[:, None]
        total += tl.load(place, is_wanted, 0.0)
    tl.store(place, total, is_wanted)


def multiply(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    out: Tensor,
    *,
    n_rows: int,
    rows: Tensor | None = None,
    gelu: bool = False,
    adds_to: tuple[Tensor, int] | None = None,
) -> None:
    """`out = x · weightᵀ + bias`, row by row, in float32.

    Args:
        x: `[N, K]`.
        weight, bias: `[L, K]` and `[L]`.
        out: `[n_rows, L]` or more rows, written.
        n_rows: how many.
        rows: `[n_rows]` int32, which rows of `x` to take; the first ones if left out.
        gelu: whether the result is put through a GELU.
        adds_to: phases `[n_rows]` int32 of the rows, and a mask of those that are active: only
            their rows are written, and added to.
    """
    n_out, n_in = weight.shape
    phases, mask = (x, EVERY_PHASE) if adds_to is None else adds_to
    grid = triton.cdiv(n_rows, ROWS), triton.cdiv(n_out, OUT)
    product[grid](
        x, x if rows is None else rows, weight, weight if bias is None else bias, phases, out,
        n_rows, n_in, n_out, mask, GATHERS=rows is not None, HAS_BIAS=bias is not None, GELU=gelu,
        ADDS=adds_to is not None, ROWS=ROWS, OUT=OUT, IN=IN,
        **OPTIONS,
    )  # fmt: skip
