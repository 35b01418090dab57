"""The mixers of both relations on a device, for the new tokens of a whole batch."""

from typing import Any

from torch import Tensor

from causalrn.model.ops.gpu.linear import multiply
from causalrn.model.ops.norm.gpu import norm_rows
from causalrn.model.ops.relation.gpu import relate_all
from causalrn.model.ops.relation.gpu_separable import add_up
from causalrn.model.ops.token_shift.gpu import extend_tails, shift_rows
from causalrn.model.state import LayerState
from causalrn.model.step import Step


def normalized_layer(mixer: Any, step: Step, layer: LayerState) -> None:
    """Add to `step.x` what a `causalrn.model.mixers.normalized.NormalizedRelation` writes."""
    a, b, o = _project(mixer, step, layer)
    relate_all(step.scratch, layer.pool, step.state.page_size, mixer.norm_eps, a, b, o)
    write(mixer, step, layer, o)


def separable_layer(mixer: Any, step: Step, layer: LayerState) -> None:
    """Add to `step.x` what a `causalrn.model.mixers.separable.SeparableRelation` writes."""
    a, b, o = _project(mixer, step, layer)
    sums, page_size = layer.state["sums"], step.state.page_size
    add_up(step.scratch, sums, page_size, mixer.n_head, mixer.norm_eps, a, b, o)
    write(mixer, step, layer, o)


def shifted_rows(mixer: Any, step: Step, layer: LayerState) -> tuple[Tensor, Tensor]:
    """What readers and memories are made of, `[N, D]` both: normalized rows, and tokens before."""
    device, n, d = step.scratch, step.scratch.batch.n_rows, mixer.d_model
    inputs = device.room("inputs", 3, n, d)
    z, readers, memories = inputs
    norm_rows(step.x, z, mixer.norm_eps)
    if mixer.shift is None:
        return z, z
    shift_rows(
        device, z, mixer.shift.weight, layer.state["tail"], inputs[1:],
        first=mixer.shift_channels[0], within_turn=mixer.within_turn,
    )  # fmt: skip
    return readers, memories


def _project(mixer: Any, step: Step, layer: LayerState) -> tuple[Tensor, Tensor, Tensor]:
    """Readers and memories `[N, R]` of the new rows, and as much room for what is read."""
    n = step.scratch.batch.n_rows
    readers, memories = shifted_rows(mixer, step, layer)
    a, b, o = step.scratch.room("related", 3, n, mixer.d_relation)
    multiply(readers, mixer.reader.weight, mixer.reader.bias, a, n_rows=n)
    multiply(memories, mixer.memory.weight, None, b, n_rows=n)
    return a, b, o


def write(mixer: Any, step: Step, layer: LayerState, o: Tensor) -> None:
    """Write to the active rows, and let the tails of the token shift go on."""
    device, batch = step.scratch, step.scratch.batch
    n = batch.n_rows
    norm_rows(o, o, mixer.norm_eps)
    active = batch.phases, device.mask
    multiply(o, mixer.output.weight, mixer.output.bias, step.x, n_rows=n, adds_to=active)
    if mixer.shift is None:
        return
    z = device.room("inputs", 3, n, mixer.d_model)[0]
    extend_tails(
        device, z, layer.state["tail"], step.state.page_size, first=mixer.shift_channels[0]
    )
