"""The relations: what a CausalRN has in place of attention. `README.md` has the derivation.

Both functions here are differentiable and take whole sequences. `cpu_layers.py` continues ragged
batches of sequences from their state, with the parts that `cpu.py` has for it; `gpu_layers.py` does
so on a device.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.lanes import row_sums
from causalrn.model.ops.device import is_on_device
from causalrn.model.ops.norm import norm
from causalrn.model.ops.relation import cpu_whole
from causalrn.model.ops.relation.cpu import RUN

KEY_BLOCK = 16
"""Channels of a memory's keys that lie side by side in its page; then come those of the next
memory. So the first channels of many memories can be read in one go."""


def normalized_relation(a: Tensor, b: Tensor, eps: float) -> Tensor:
    """Mean over `v <= t` of `exp(norm(a_t + b_v))`, the norm taken over K for each pair and head.

    Takes O(T) memory.

    Args:
        a: readers of shape `[B, T, H, K]`, float32.
        b: memories of shape `[B, T, H, K]`, float32.
        eps: added to each pair's standard deviation.

    Returns:
        `[B, T, H, K]` float32.

    Raises:
        ValueError: the shapes differ, or are of another form.
    """
    if a.ndim != 4 or a.shape != b.shape:
        raise ValueError(f"a and b must both be [B, T, H, K], got {a.shape} and {b.shape}")
    if is_on_device(a):
        from causalrn.model.ops.relation import gpu_whole

        return gpu_whole.normalized_relation(a, b, eps)
    result: Tensor = _NormalizedRelation.apply(a, b, eps)  # type: ignore[no-untyped-call]
    return result


def separable_relation(a: Tensor, b: Tensor, eps: float) -> Tensor:
    """`exp(norm(a_t))` times the mean over `v <= t` of `exp(norm(b_v))`, as a prefix sum.

    Args and result as `normalized_relation`, on the CPU also float64; O(T) time and memory.
    """
    if is_on_device(a):
        from causalrn.model.ops.relation import gpu_separable_whole

        return gpu_separable_whole.separable_relation(a, b, eps)
    counts = torch.arange(1, a.shape[1] + 1, dtype=a.dtype)
    sums = norm(b, eps).exp().cumsum(1)  # added up in float64, whatever it is in
    return norm(a, eps).exp() * (sums / counts[None, :, None, None])


def memory_totals(memories: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sums of the channels of memories `[T, H, K]`, as the pools of the CPU keep them, `[T, H]`."""
    return row_sums(memories)


def _groups(x: Tensor) -> Tensor:
    """`[B, T, H, K]` to contiguous `[B·H, S, K]`, with zeros behind T up to whole runs."""
    batch, length, heads, k = x.shape
    groups = x.transpose(1, 2).reshape(batch * heads, length, k)
    return pad(groups, (0, 0, 0, -length % RUN)) if length % RUN else groups.contiguous()


class _NormalizedRelation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, eps: float) -> Tensor:
        ctx.shape, ctx.eps = a.shape, eps
        batch, length, heads, k = a.shape
        a, b = _groups(a), _groups(b)
        out = a.new_empty(batch * heads, length, k)
        cpu_whole.forward(
            a.numpy(), b.numpy(), length, np.float32(eps), jit.num_threads(), out.numpy()
        )
        ctx.save_for_backward(a, b)
        return out.view(batch, heads, length, k).transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        batch, length, heads, k = ctx.shape
        a, b = ctx.saved_tensors
        g = _groups(grads[0])
        changes = torch.empty_like(a), torch.empty_like(b)
        cpu_whole.backward(
            a.numpy(), b.numpy(), g.numpy(), length, np.float32(ctx.eps), jit.num_threads(),
            *(change.numpy() for change in changes),
        )  # fmt: skip
        for change in changes:
            change -= change.mean(-1, keepdim=True)
        da, db = (
            change.view(batch, heads, -1, k)[:, :, :length].transpose(1, 2) for change in changes
        )
        return da, db, None
