"""Normalization without parameters, the paper's: epsilon is added to the standard deviation."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from causalrn.model.ops.device import is_on_device
from causalrn.model.ops.norm import cpu


def norm(x: Tensor, eps: float) -> Tensor:
    """`(x - mean) / (std + eps)` over the last axis, biased standard deviation, differentiable.

    A row's result has the same bits whatever other rows there are. A constant row gives zeros for
    `eps > 0`, and no gradient goes through its deviation.

    Args:
        x: any shape, float32 or float64.
        eps: at least 0; 0 gives NaN for constant rows, as the formula says.
    """
    if is_on_device(x):
        from causalrn.model.ops.norm import gpu

        return gpu.norm(x, eps)
    result: Tensor = _Norm.apply(x, eps)  # type: ignore[no-untyped-call]
    return result


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        z, std = torch.empty_like(rows), rows.new_empty(rows.shape[0])
        cpu.forward(rows.detach().numpy(), eps, z.numpy(), std.numpy(), work=z.numel())
        ctx.save_for_backward(z, std)
        ctx.eps = eps
        return z.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        z, std = ctx.saved_tensors
        g = grads[0].reshape(z.shape).contiguous()
        dx = torch.empty_like(z)
        cpu.backward(g.numpy(), z.numpy(), std.numpy(), ctx.eps, dx.numpy(), work=z.numel())
        return dx.view(grads[0].shape), None
