"""The keyed relation, differentiable, over whole sequences; `README.md` has the derivation."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.ops.cpu import jit
from model.ops.relation import cpu_keyed


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
    Takes O(T) memory; computed on the CPU.

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
        reaches: `[B, T]` int64 (`model.ops.positions`), for a tolerance.
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
    parts = (a[..., :d_key], a[..., d_key:], b[..., :d_key], b[..., d_key:])
    if active is None:
        active = torch.ones(a.shape[:2], dtype=torch.bool)
    if tolerance == 0:
        reaches, energy = torch.zeros(a.shape[:2], dtype=torch.int64), b.new_empty(0)
    elif reaches is None or energy is None:
        raise ValueError("a tolerance needs reaches and energy")
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
        parts = [part.contiguous() for part in (a_keys, a_values, keys, values)]
        out = torch.empty_like(parts[3])
        bests = values.new_empty(values.shape[:2], dtype=torch.float64)
        numbers = (float(temperature), *map(float, constants))
        parts += [part.contiguous() for part in (active, reaches, energy)]
        arrays = (part.detach().numpy() for part in parts)
        cpu_keyed.forward(*arrays, *numbers, 4 * jit.num_threads(), out.numpy(), bests.numpy())
        ctx.save_for_backward(*parts, bests, temperature)
        ctx.numbers = numbers
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        *parts, bests, temperature = ctx.saved_tensors
        changes = [torch.empty_like(part) for part in parts[:4]]
        by_group = bests.new_empty(bests.shape[0])
        cpu_keyed.backward(
            *(part.numpy() for part in parts), grads[0].contiguous().numpy(), bests.numpy(),
            *ctx.numbers, *(change.numpy() for change in changes), by_group.numpy(),
        )  # fmt: skip
        dt = by_group.sum().to(temperature).view_as(temperature)
        return *changes, None, None, None, dt, None, None, None
