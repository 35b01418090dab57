"""The keyed relation, differentiable, over whole sequences; `README.md` has the derivation."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.device import is_on_device
from causalrn.model.ops.relation import KEY_BLOCK, cpu_keyed_whole
from causalrn.model.ops.relation.cpu_keyed import RUN


def keyed_relation(
    a: Tensor,
    b: Tensor,
    temperature: Tensor,
    *,
    d_value: int,
    recency: float,
    eps: float,
    active: Tensor | None = None,
    tolerance: float = 0.0,
    reaches: Tensor | None = None,
    energy: Tensor | None = None,
) -> Tensor:
    """Sum over `v <= t` of `exp(τ·norm(a_t + b_v))`, of the value channels.

    Each weight is divided by `(1 + t - v)^recency`, and all weights of a reader by the largest of
    them, which is constant for the gradient: the norm that follows the relation takes it out again.
    Takes O(T) memory.

    Args:
        a: readers of shape `[B, T, R]`, or `[B, T, R - d_value]` if they say nothing of values;
            float32.
        b: memories of shape `[B, T, R]`, float32: keys first, then `d_value` values.
        temperature: τ, a scalar.
        d_value: channels that are exponentiated.
        recency: how fast weights fall with age, 0 for not at all.
        eps: added to each pair's standard deviation.
        active: `[B, T]` bool, readers that are wanted; the others cost nothing and get zeros. All
            of them if left out.
        tolerance: so many times what a full match leaves of the keys counts as nothing; their sum
            is then left out of the means. 0 if all that keys leave counts.
        reaches: `[B, T]` int64 (`causalrn.model.ops.positions`), for a tolerance.
        energy: `[n_taps]` float32, squares of the keys that come of each of the last tokens, for a
            tolerance.

    Returns:
        `[B, T, d_value]` float32.

    Raises:
        ValueError: the shapes do not fit together, or what a tolerance needs is missing.
    """
    d_key = b.shape[-1] - d_value
    if a.ndim != 3 or a.shape[:2] != b.shape[:2] or d_value < 1 or d_key < 0:
        raise ValueError(
            f"a and b must be [B, T, *] and b have at least {d_value} channels, "
            f"got {a.shape} and {b.shape}"
        )
    if a.shape[-1] not in (d_key, b.shape[-1]):
        raise ValueError(f"readers must have {d_key} or {b.shape[-1]} channels, got {a.shape[-1]}")
    if tolerance == 0:
        reaches = energy = None
    elif reaches is None or energy is None:
        raise ValueError("a tolerance needs reaches and energy")
    if is_on_device(b):
        from causalrn.model.ops.relation import gpu_keyed_whole

        return gpu_keyed_whole.keyed_relation(
            a, b, temperature, d_value=d_value, recency=recency, eps=eps, active=active,
            tolerance=tolerance, reaches=reaches, energy=energy,
        )  # fmt: skip
    parts = (a[..., :d_key], a[..., d_key:], b[..., :d_key], b[..., d_key:])
    if active is None:
        active = torch.ones(a.shape[:2], dtype=torch.bool)
    if reaches is None or energy is None:
        reaches, energy = torch.zeros(a.shape[:2], dtype=torch.int64), b.new_empty(0)
    result: Tensor = _KeyedRelation.apply(  # type: ignore[no-untyped-call]
        *parts, active, reaches, energy, temperature, recency, eps, tolerance
    )
    return result


class _KeyedRelation(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        a_keys: Tensor,
        a_values: Tensor,
        keys: Tensor,
        values: Tensor,
        active: Tensor,
        reaches: Tensor,
        energy: Tensor,
        temperature: Tensor,
        *constants: float,
    ) -> Tensor:
        length, d_key = keys.shape[1:]
        ctx.widths = d_key, a_values.shape[2]
        more, missing = -length % RUN, -d_key % KEY_BLOCK
        pages = pad(keys, (0, missing, 0, more)).unflatten(2, (-1, KEY_BLOCK)).transpose(1, 2)
        rows = pad(values, (0, 0, 0, more)).flatten(0, 1)
        given = (pad(a_keys, (0, missing)), a_values, pages, rows, active, reaches, energy)
        parts = [part.detach().contiguous() for part in given]
        out = torch.empty_like(values, memory_format=torch.contiguous_format)
        bests = values.new_empty(values.shape[:2], dtype=torch.float64)
        ctx.numbers = (d_key + values.shape[2], float(temperature), *map(float, constants))
        cpu_keyed_whole.forward(
            *(part.numpy() for part in parts), *ctx.numbers, 4 * jit.num_threads(), out.numpy(),
            bests.numpy(),
        )  # fmt: skip
        ctx.save_for_backward(*parts, bests, temperature)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        *parts, bests, temperature = ctx.saved_tensors
        g = grads[0].contiguous()
        d_key, d_spoken = ctx.widths
        widths = d_key, d_spoken, d_key, g.shape[2]
        changes = [g.new_empty(*g.shape[:2], width) for width in widths]
        by_group = bests.new_empty(bests.shape[0])
        cpu_keyed_whole.backward(
            *(part.numpy() for part in parts), g.numpy(), bests.numpy(),
            *ctx.numbers, *(change.numpy() for change in changes), by_group.numpy(),
        )  # fmt: skip
        dt = by_group.sum().to(temperature).view_as(temperature)
        return *changes, None, None, None, dt, None, None, None
