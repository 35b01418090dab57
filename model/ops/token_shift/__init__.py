"""Causal depthwise convolution with a few taps, for readers and memories at once."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.ops.token_shift import cpu, reference


def token_shift(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve whole sequences; tokens before the first count as zeros. Differentiable.

    Args:
        x: `[B, T, D]`, float32 or float64.
        weight: `[2, W, D]`; tap k multiplies the token k places back.

    Returns:
        `[2, B, T, D]`: one result for readers, one for memories.
    """
    if x.device.type != "cpu":
        return reference.token_shift(x, weight)
    result: Tensor = _TokenShift.apply(x, weight)  # type: ignore[no-untyped-call]
    return result


class _TokenShift(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        x, weight = x.contiguous(), weight.contiguous()
        out = x.new_empty(2, *x.shape)
        cpu.forward(x.detach().numpy(), weight.detach().numpy(), out.numpy())
        ctx.save_for_backward(x, weight)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        g = grads[0].contiguous()
        dx = torch.empty_like(x)
        dw = weight.new_empty(x.shape[0], *weight.shape)  # one a sequence, added up in order
        cpu.backward(x.numpy(), weight.numpy(), g.numpy(), dx.numpy(), dw.numpy())
        return dx, dw.sum(0)
