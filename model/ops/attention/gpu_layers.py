"""The mixers of attention on a device, for the new tokens of a whole batch."""

import math
from typing import Any

import triton
from torch import Tensor

from causalrn.model.ops.attention import gpu
from causalrn.model.ops.gpu.linear import multiply
from causalrn.model.ops.norm.gpu import norm_rows
from causalrn.model.ops.relation.gpu import SEGMENT
from causalrn.model.state import LayerState
from causalrn.model.step import Step

_LOG2E = 1.4426950408889634


def attention_layer(mixer: Any, step: Step, layer: LayerState) -> None:
    """Add to `step.x` what a `causalrn.model.mixers.attention.Attention` writes."""
    device, batch = step.scratch, step.scratch.batch
    keys, values, page_size = layer.pool["keys"], layer.pool["values"], step.state.page_size
    n, heads, k = batch.n_rows, mixer.n_head, keys.shape[3]
    n_pages, channels = batch.block_tables.shape[1], triton.next_power_of_2(k)
    projected, o = _projected(mixer, step), device.room("attended", n, heads * k)
    gpu.remember[(n, heads)](
        projected, batch.owners, batch.places, batch.block_tables, keys, values, n_pages, heads,
        page_size, k, CHANNELS=channels,
    )  # fmt: skip
    n_segments = triton.cdiv(batch.longest, SEGMENT)
    partials = device.room("partials", n_segments, n, heads * k)
    weights = device.room("weights", n_segments, n, heads, 2)
    gpu.attend[(n, heads, n_segments)](
        projected, batch.owners, batch.places, batch.phases, batch.block_tables, keys, values,
        partials, weights, n, n_pages, heads, page_size, k, device.mask, _LOG2E / math.sqrt(k),
        CHANNELS=channels, RUN=gpu.run_of(channels), SEGMENT=SEGMENT,
    )  # fmt: skip
    gpu.combine[(n, heads)](
        partials, weights, batch.places, batch.phases, o, n, heads, k, device.mask,
        CHANNELS=channels, SEGMENT=SEGMENT,
    )  # fmt: skip
    _write(mixer, step, o)


def linear_attention_layer(mixer: Any, step: Step, layer: LayerState) -> None:
    """Add to `step.x` what a `causalrn.model.mixers.attention.LinearAttention` writes."""
    device, batch, sums = step.scratch, step.scratch.batch, layer.state["sums"]
    n, heads, k = batch.n_rows, mixer.n_head, sums.shape[2]
    projected, o = _projected(mixer, step), device.room("attended", n, heads * k)
    weights = device.room("weights", n, heads)
    of_batch = batch.starts, batch.context_lens, batch.slots, batch.state_tables
    sizes = batch.state_tables.shape[1], step.state.page_size, heads, k
    channels, n_sequences = triton.next_power_of_2(k), len(batch.slots)
    gpu.sum_keys[(n_sequences, heads)](
        projected, *of_batch, sums, weights, *sizes, CHANNELS=channels
    )
    values = gpu.values_of(channels)
    gpu.attend_linearly[(n_sequences, heads, triton.cdiv(k, values))](
        projected, *of_batch, sums, weights, o, *sizes, CHANNELS=channels, VALUES=values
    )
    _write(mixer, step, o)


def _projected(mixer: Any, step: Step) -> Tensor:
    """Queries, keys and values of the new rows, `[N, 3·R]`."""
    device, n = step.scratch, step.scratch.batch.n_rows
    z = device.room("inputs", 3, n, mixer.d_model)[0]
    norm_rows(step.x, z, mixer.norm_eps)
    projected: Tensor = device.room("projected", n, 3 * mixer.d_attention)
    multiply(z, mixer.inputs.weight, mixer.inputs.bias, projected, n_rows=n)
    return projected


def _write(mixer: Any, step: Step, o: Tensor) -> None:
    """Write to the active rows."""
    device, batch = step.scratch, step.scratch.batch
    active = batch.phases, device.mask
    multiply(o, mixer.output.weight, mixer.output.bias, step.x, n_rows=batch.n_rows, adds_to=active)
