"""The channel MLP on a device, for the new tokens of a whole batch."""

from typing import Any

import triton

from model.ops.gpu.linear import multiply
from model.ops.token_shift.gpu import normalize_rows
from model.step import Step


def mlp(module: Any, step: Step, layer: None) -> None:  # noqa: ARG001
    """Add to the active rows of a step what a `model.mlp.Mlp` writes."""
    device = step.scratch
    n, (width, d) = device.batch.n_rows, module.up.weight.shape
    (z,) = device.rows("inputs", 1, d)
    (hidden,) = device.rows("hidden", 1, width)
    normalize_rows[(n,)](step.x, z, d, module.norm_eps, CHANNELS=triton.next_power_of_2(d))
    multiply(z, module.up.weight, module.up.bias, hidden, n_rows=n, gelu=True)
    active = device.batch.phases, device.mask
    multiply(hidden, module.down.weight, module.down.bias, step.x, n_rows=n, adds_to=active)
