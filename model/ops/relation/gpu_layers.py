"""The mixers of both relations on a device, for the new tokens of a whole batch."""

from typing import Any

import triton
from torch import Tensor

from model.ops.gpu.linear import multiply
from model.ops.relation import gpu, gpu_separable
from model.ops.token_shift.gpu import TAIL_NUMBERS, keep_tails, normalize_rows, shift
from model.state import LayerState
from model.step import Step

_SCAN_CHANNELS = 32  # that one program adds up


def normalized_layer(mixer: Any, step: Step, layer: LayerState) -> None:
    """Add to `step.x` what a `model.mixers.normalized.NormalizedRelation` writes."""
    device, batch = step.scratch, step.scratch.batch
    a, b, o = _project(mixer, step, layer)
    heads, k = mixer.n_head, mixer.d_relation // mixer.n_head
    channels = triton.next_power_of_2(k)
    page_size, n_pages = step.state.page_size, batch.block_tables.shape[1]
    pool = layer.pool["pool"]
    gpu.append[(batch.n_rows, heads)](
        b, batch.owners, batch.places, batch.block_tables, pool, n_pages, heads, page_size, k,
        CHANNELS=channels,
    )  # fmt: skip
    partials = device.segments(triton.cdiv(batch.longest, gpu.SEGMENT), mixer.d_relation)
    gpu.relate[(len(batch.tiles), heads, len(partials))](
        a, batch.tiles, batch.block_tables, pool, partials, partials.shape[1], n_pages, heads,
        page_size, k, mixer.norm_eps, CHANNELS=channels, READERS=gpu.READERS, SEGMENT=gpu.SEGMENT,
        **gpu.run_of(channels),
    )  # fmt: skip
    gpu.combine[(batch.n_rows, heads)](
        partials, batch.places, batch.phases, o, partials.shape[1], heads, k, device.mask,
        CHANNELS=channels, SEGMENT=gpu.SEGMENT,
    )  # fmt: skip
    _write(mixer, step, layer, o)


def separable_layer(mixer: Any, step: Step, layer: LayerState) -> None:
    """Add to `step.x` what a `model.mixers.separable.SeparableRelation` writes."""
    batch = step.scratch.batch
    a, b, o = _project(mixer, step, layer)
    k = mixer.d_relation // mixer.n_head
    for rows in (a, b):
        gpu_separable.exponentiate[(batch.n_rows * mixer.n_head,)](
            rows, k, mixer.norm_eps, CHANNELS=triton.next_power_of_2(k)
        )
    grid = len(batch.slots), triton.cdiv(mixer.d_relation, _SCAN_CHANNELS)
    gpu_separable.scan[grid](
        a, b, batch.starts, batch.context_lens, batch.slots, batch.state_tables,
        layer.state["sums"], o, batch.state_tables.shape[1], step.state.page_size, mixer.d_relation,
        CHANNELS=_SCAN_CHANNELS,
    )  # fmt: skip
    _write(mixer, step, layer, o)


def _project(mixer: Any, step: Step, layer: LayerState) -> tuple[Tensor, Tensor, Tensor]:
    """Readers and memories `[N, R]` of the new rows, and as much room for what is read."""
    device, batch = step.scratch, step.scratch.batch
    n, d = batch.n_rows, mixer.d_model
    z, readers, memories = device.rows("inputs", 3, d)
    a, b, o = device.rows("related", 3, mixer.d_relation)
    normalize_rows[(n,)](step.x, z, d, mixer.norm_eps, CHANNELS=triton.next_power_of_2(d))
    if mixer.shift is None:
        readers = memories = z
    else:
        first, end = mixer.shift_channels
        shift[(n,)](
            z, batch.owners, batch.starts, batch.slots, batch.reaches, mixer.shift.weight,
            layer.state["tail"], readers, memories, d, first, end - first, mixer.shift_width,
            int(mixer.within_turn), CHANNELS=triton.next_power_of_2(d),
        )  # fmt: skip
    multiply(readers, mixer.reader.weight, mixer.reader.bias, a, n_rows=n)
    multiply(memories, mixer.memory.weight, None, b, n_rows=n)
    return a, b, o


def _write(mixer: Any, step: Step, layer: LayerState, o: Tensor) -> None:
    """Write to the active rows, and let the tails of the token shift go on."""
    device, batch = step.scratch, step.scratch.batch
    n, width = batch.n_rows, mixer.output.in_features
    normalize_rows[(n,)](o, o, width, mixer.norm_eps, CHANNELS=triton.next_power_of_2(width))
    active = batch.phases, device.mask
    multiply(o, mixer.output.weight, mixer.output.bias, step.x, n_rows=n, adds_to=active)
    if mixer.shift is None:
        return
    first, end = mixer.shift_channels
    kept = triton.next_power_of_2(mixer.shift_width - 1)
    channels = min(triton.next_power_of_2(end - first), max(16, TAIL_NUMBERS // kept))
    keep_tails[(len(batch.slots), triton.cdiv(end - first, channels))](
        device.rows("inputs", 3, mixer.d_model)[0], batch.starts, batch.context_lens, batch.slots,
        batch.state_tables, layer.state["tail"], batch.state_tables.shape[1], step.state.page_size,
        mixer.d_model, first, end - first, mixer.shift_width - 1, KEPT=kept, CHANNELS=channels,
    )  # fmt: skip
