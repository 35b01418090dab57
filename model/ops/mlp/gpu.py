"""The channel MLP on a device, for the new tokens of a whole batch."""

from typing import Any

from model.ops.gpu.linear import multiply
from model.ops.norm.gpu import norm_rows
from model.step import Step


def mlp(module: Any, step: Step, layer: None) -> None:  # noqa: ARG001
    """Add to the active rows of a step what a `model.mlp.Mlp` writes."""
    device = step.scratch
    n, (width, d) = device.batch.n_rows, module.up.weight.shape
    z, hidden = device.room("inputs", n, d), device.room("hidden", n, width)
    norm_rows(step.x, z, module.norm_eps)
    multiply(z, module.up.weight, module.up.bias, hidden, n_rows=n, gelu=True)
    active = device.batch.phases, device.mask
    multiply(hidden, module.down.weight, module.down.bias, step.x, n_rows=n, adds_to=active)
