"""The channel MLP on the CPU, for the new tokens of a whole batch."""

from typing import Any

import numpy as np

from model.ops.cpu import jit
from model.ops.cpu.dealing import take
from model.ops.cpu.lanes import exp2
from model.ops.cpu.linear import add_product
from model.ops.cpu.operations import Work, operation
from model.ops.cpu.records import F32, F64
from model.ops.norm.cpu import normalize
from model.state import DecoderState

_TILE = 8  # rows that one thread takes at a time
_F1 = np.float32(1.0)
# gelu(x) = x · sigmoid(2·sqrt(2/π)·(x + 0.044715·x³)), and sigmoid(u) = 1 / (1 + 2^(-u·log2 e))
_SCALE = np.float32(-2.0 * 0.7978845608028654 * 1.4426950408889634)
_CUBIC = np.float32(0.044715)
_LARGEST = np.float32(126.0)  # `exp2` takes exponents of either sign up to here


def mlp_work(module: Any, layer: None, state: DecoderState) -> Work:  # noqa: ARG001
    """What a `model.mlp.Mlp` asks for: it adds to the active rows of a step."""
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


@jit.inline
def _gelu(row):
    """Replace a row by its GELU, in GPT-2's form."""
    for i in range(row.shape[0]):
        x = row[i]
        power = _SCALE * (x + _CUBIC * x * x * x)
        row[i] = x / (_F1 + exp2(min(max(power, -_LARGEST), _LARGEST)))


@operation(
    eps=F64, up=F32[:, ::1], up_bias=F32[::1], down=F32[:, ::1], down_bias=F32[::1],
    z=F32[:, ::1], hidden=F32[:, ::1],
)  # fmt: skip
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
            tile = take(taken, 0)
