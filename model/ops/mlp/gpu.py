"""The channel MLP on a device, for the new tokens of a whole batch."""

from typing import Any

from torch import Tensor

from causalrn.model.ops.gpu.linear import multiply
from causalrn.model.ops.norm.gpu import norm_rows
from causalrn.model.ops.token_shift.gpu import extend_tails, shift_rows
from causalrn.model.state import LayerState
from causalrn.model.step import Step


def mlp(module: Any, step: Step, layer: LayerState) -> None:  # noqa: ARG001
    """Add to the active rows of a step what a `causalrn.model.mlp.Mlp` without taps writes."""
    z = step.scratch.room("inputs", *step.x.shape)
    norm_rows(step.x, z, module.norm_eps)
    _write(module, step, z)


def shifted_mlp(module: Any, step: Step, layer: LayerState) -> None:
    """Add to the active rows of a step what a `causalrn.model.mlp.Mlp` with taps writes."""
    device, tails = step.scratch, layer.state["mlp_tail"]
    inputs = device.room("inputs", 2, *step.x.shape)
    z, shifted = inputs
    norm_rows(step.x, z, module.norm_eps)
    shift_rows(device, z, module.taps[None], tails, inputs[1:])
    _write(module, step, shifted)
    extend_tails(device, z, tails, step.state.page_size)


def _write(module: Any, step: Step, z: Tensor) -> None:
    """Add what the MLP makes of rows `z` `[N, D]`."""
    device = step.scratch
    n, width = device.batch.n_rows, len(module.up.weight)
    hidden = device.room("hidden", n, width)
    multiply(z, module.up.weight, module.up.bias, hidden, n_rows=n, gelu=True)
    active = device.batch.phases, device.mask
    multiply(hidden, module.down.weight, module.down.bias, step.x, n_rows=n, adds_to=active)
