"""The channel MLP on the CPU, one compiled call for the new tokens of a whole batch."""

from typing import Any

import numpy as np

from model.ops.cpu import jit
from model.ops.cpu.lanes import exp2
from model.ops.cpu.linear import add_product
from model.ops.norm.cpu import normalize
from model.step import Step

_TILE = 8  # rows that one thread takes at a time
_F1 = np.float32(1.0)
# gelu(x) = x · sigmoid(2·sqrt(2/π)·(x + 0.044715·x³)), and sigmoid(u) = 1 / (1 + 2^(-u·log2 e))
_SCALE = np.float32(-2.0 * 0.7978845608028654 * 1.4426950408889634)
_CUBIC = np.float32(0.044715)
_LARGEST = np.float32(126.0)  # `exp2` takes exponents of either sign up to here


def mlp(module: Any, step: Step) -> None:
    """The operation that a `model.mlp.Mlp` asks for: adds to the active rows of `step.x`."""
    up, up_bias, down, down_bias = module.views()
    n_rows, d = step.x.shape
    _mlp(
        step.x, step.active, module.norm_eps, up, up_bias, down, down_bias,
        step.scratch.rows("inputs", 3, d)[0], step.scratch.rows("hidden", 1, len(up))[0],
        work=n_rows * len(up) * (d // 4 + 1),
    )  # fmt: skip


@jit.inline
def _gelu(row):
    """Replace a row by its GELU, in GPT-2's form."""
    for i in range(row.shape[0]):
        x = row[i]
        power = _SCALE * (x + _CUBIC * x * x * x)
        row[i] = x / (_F1 + exp2(min(max(power, -_LARGEST), _LARGEST)))


@jit.dealt_kernel
def _mlp(x, active, eps, up, up_bias, down, down_bias, z, hidden):
    """x += down · gelu(up · norm(x) + up_bias) + down_bias, in active rows.

    Args:
        x: `[N, D]` residual stream, updated in place.
        active: `[N]` bool.
        eps: added to deviations.
        up, up_bias, down, down_bias: `[F, D]`, `[F]`, `[D, F]`, `[D]`.
        z: `[N, D]` scratch.
        hidden: `[N, F]` scratch.
    """
    n_rows = x.shape[0]
    for tile in jit.prange((n_rows + _TILE - 1) // _TILE):
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
