"""Normalization without parameters, the paper's: epsilon is added to the standard deviation."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.ops import jit
from model.ops.lanes import row_dot, row_sum


def norm(x: Tensor, eps: float) -> Tensor:
    """`(x - mean) / (std + eps)` over the last axis, biased standard deviation, differentiable.

    A row's result has the same bits whatever other rows there are. A constant row gives zeros for
    `eps > 0`, and no gradient through its deviation.

    Args:
        x: any shape, float32 or float64, on the CPU.
        eps: at least 0; 0 gives NaN for constant rows, as the formula says.
    """
    result: Tensor = _Norm.apply(x, eps)  # type: ignore[no-untyped-call]
    return result


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        z, std = torch.empty_like(rows), rows.new_empty(rows.shape[0])
        _forward(rows.detach().numpy(), eps, z.numpy(), std.numpy(), work=z.numel())
        ctx.save_for_backward(z, std)
        ctx.eps = eps
        return z.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        z, std = ctx.saved_tensors
        g = grads[0].reshape(z.shape).contiguous()
        dx = torch.empty_like(z)
        _backward(g.numpy(), z.numpy(), std.numpy(), ctx.eps, dx.numpy(), work=z.numel())
        return dx.view(grads[0].shape), None


@jit.kernel
def _forward(x, eps, z, std):
    for r in jit.prange(x.shape[0]):
        std[r] = normalize(x[r], eps, z[r])


@jit.inline
def normalize(x, eps, z):
    """Write the normalized row `x` `[K]` to `z` and return its deviation; sums in float64."""
    mean = row_sum(x) / x.shape[0]
    deviation = math.sqrt(row_dot(x, x, mean) / x.shape[0])
    inv = 1.0 / (deviation + eps)
    for i in range(x.shape[0]):
        z[i] = (x[i] - mean) * inv
    return deviation


@jit.kernel
def _backward(g, z, std, eps, dx):
    """dx = (g - mean(g) - z·mean(g·z)·(std + eps) / std) / (std + eps)."""
    n_rows, d = g.shape
    for r in jit.prange(n_rows):
        mean = row_sum(g[r]) / d
        dot = row_dot(g[r], z[r], 0.0)
        inv = 1.0 / (std[r] + eps)
        curve = 0.0 if std[r] == 0.0 else dot / d / (std[r] * inv)
        for i in range(d):
            dx[r, i] = (g[r, i] - mean - z[r, i] * curve) * inv
