"""The channel MLP on the CPU, for the new tokens of a whole batch."""

from typing import Any

import numpy as np

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.dealing import add, take, take_near, wait_for
from causalrn.model.ops.cpu.lanes import exp2
from causalrn.model.ops.cpu.linear import add_product
from causalrn.model.ops.cpu.operations import Work, operation
from causalrn.model.ops.cpu.records import F32, F64, I64
from causalrn.model.ops.norm.cpu import normalize, normalize_rows
from causalrn.model.ops.token_shift.cpu import keep_tails, shift_row
from causalrn.model.state import DecoderState, LayerState

_TILE = 8  # rows that one thread takes at a time
_F1 = np.float32(1.0)
# gelu(x) = x · sigmoid(2·sqrt(2/π)·(x + 0.044715·x³)), and sigmoid(u) = 1 / (1 + 2^(-u·log2 e))
_SCALE = np.float32(-2.0 * 0.7978845608028654 * 1.4426950408889634)
_CUBIC = np.float32(0.044715)
_LARGEST = np.float32(126.0)  # `exp2` takes exponents of either sign up to here


_OF_MLPS = {
    "eps": F64,
    "up": F32[:, ::1],
    "up_bias": F32[::1],
    "down": F32[:, ::1],
    "down_bias": F32[::1],
    "z": F32[:, ::1],
    "hidden": F32[:, ::1],
}


def mlp_work(module: Any, layer: LayerState, state: DecoderState) -> Work:  # noqa: ARG001
    """What a `causalrn.model.mlp.Mlp` without taps asks for: it adds to active rows."""
    up, up_bias, down, down_bias = module.views()
    width, d = up.shape
    space = state.scratch
    values = {
        "eps": module.norm_eps,
        "up": up,
        "up_bias": up_bias,
        "down": down,
        "down_bias": down_bias,
        "z": space.rows("inputs", 3, d)[0],
        "hidden": space.rows("hidden", 1, width)[0],
    }
    return Work(values, per_row=width * (d // 4 + 1))


def shifted_mlp_work(module: Any, layer: LayerState, state: DecoderState) -> Work:
    """What a `causalrn.model.mlp.Mlp` with taps asks for."""
    plain = mlp_work(module, layer, state)
    (taps,) = module.tap_views()
    values = {
        **plain.values,
        "page_size": state.page_size,
        "taps": taps,
        "tails": layer.state_arrays["mlp_tail"],
        "shifted": state.scratch.rows("inputs", 3, taps.shape[1])[1],
    }
    return Work(values, per_row=plain.per_row + taps.size // 8)


@jit.inline
def _gelu(row):
    """Replace a row by its GELU, in GPT-2's form."""
    for i in range(row.shape[0]):
        x = row[i]
        power = _SCALE * (x + _CUBIC * x * x * x)
        row[i] = x / (_F1 + exp2(min(max(power, -_LARGEST), _LARGEST)))


@jit.inline
def _add_tile(first, last, active, z, up, up_bias, down, down_bias, hidden, x):
    """Add what the MLP makes of rows `first` to `last - 1` of `z` to those of `x` that are active.

    The other arguments are those of `mlp`.
    """
    for n in range(first, last):
        hidden[n] = up_bias
    add_product(z, first, last, up, hidden)
    for n in range(first, last):
        _gelu(hidden[n])
    while first < last:
        end = first
        while end < last and active[end]:
            for i in range(down_bias.shape[0]):
                x[end, i] += down_bias[i]
            end += 1
        add_product(hidden, first, end, down, x)
        first = end + 1


@operation(**_OF_MLPS)
def mlp(x, active, n_threads, eps, up, up_bias, down, down_bias, z, hidden):
    """x += down · gelu(up · norm(x) + up_bias) + down_bias, in active rows.

    Args:
        eps: added to deviations.
        up, up_bias, down, down_bias: `[F, D]`, `[F]`, `[D, F]`, `[D]`.
        z, hidden: `[N, D]` and `[N, F]`, or longer, scratch.
        The others are those of the step.
    """
    n_rows = x.shape[0]
    n_tiles = (n_rows + _TILE - 1) // _TILE
    taken = np.zeros(1, np.int64)
    for _ in jit.prange(n_threads):
        tile = take(taken, 0)
        while tile < n_tiles:
            first, last = tile * _TILE, min((tile + 1) * _TILE, n_rows)
            for n in range(first, last):
                normalize(x[n], eps, z[n])
            _add_tile(first, last, active, z, up, up_bias, down, down_bias, hidden, x)
            tile = take(taken, 0)


@jit.inline
def _shift_tile(first, last, starts, slots, taps, tails, z, shifted):
    """Convolve normalized rows `first` to `last - 1`; see `shifted_mlp`."""
    s = np.searchsorted(starts, first, side="right") - 1
    for n in range(first, last):
        while n >= starts[s + 1]:
            s += 1
        shift_row(z, n, starts[s], 0, taps, taps.shape[0], tails[slots[s]], shifted)


@operation(
    **_OF_MLPS, page_size=I64, taps=F32[:, ::1], tails=F32[:, :, ::1], shifted=F32[:, ::1]
)  # fmt: skip
def shifted_mlp(
    x, active, starts, context_lens, slots, state_tables, n_threads, eps, page_size, up, up_bias,
    down, down_bias, taps, tails, z, shifted, hidden,
):  # fmt: skip
    """What `mlp` does, with a convolution over the tokens of a sequence in front of `up`.

    Args:
        page_size: in tokens.
        taps: `[W, D]`; tap k multiplies the normalized row of the token k places back.
        tails: `[n_states, W - 1, D]`, normalized rows of the last tokens, updated in place for all
            new rows, active or not.
        shifted: `[N, D]`, or longer, scratch.
        The others are those of the step and of `mlp`.
    """
    n_rows = x.shape[0]
    n_tiles = (n_rows + _TILE - 1) // _TILE
    taken, done = np.zeros(1, np.int64), np.zeros(2, np.int64)
    near = np.zeros((2, n_threads), np.int64)
    for thread in jit.prange(n_threads):
        normalize_rows(near, thread, n_threads, done, x, n_rows, eps, z)
        tile = take_near(near[1], thread, n_threads, n_tiles)
        while tile < n_tiles:
            first, last = tile * _TILE, min((tile + 1) * _TILE, n_rows)
            _shift_tile(first, last, starts, slots, taps, tails, z, shifted)
            add(done, 1, 1)
            _add_tile(first, last, active, shifted, up, up_bias, down, down_bias, hidden, x)
            tile = take_near(near[1], thread, n_threads, n_tiles)
        wait_for(done, 1, n_tiles)
        keep_tails(taken, starts, context_lens, slots, state_tables, page_size, 0, tails, z)
