"""Causal depthwise convolution with a few taps, with one output or two."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from causalrn.model.ops.device import is_on_device
from causalrn.model.ops.token_shift import cpu


def token_shift(x: Tensor, weight: Tensor, reaches: Tensor) -> Tensor:
    """Convolve whole sequences, differentiably.

    Tokens before the first, and those that are out of reach, count as zeros.

    Args:
        x: `[B, T, D]`, float32, or on the CPU float64.
        weight: `[O, W, D]`, for O outputs, 1 or 2; tap k multiplies the token k places back.
        reaches: `[B, T]` int64, how many of the tokens before its own each token sees at most.

    Returns:
        `[O, B, T, D]`.
    """
    if is_on_device(x):
        from causalrn.model.ops.token_shift import gpu_whole

        return gpu_whole.token_shift(x, weight, reaches)
    result: Tensor = _TokenShift.apply(x, weight, reaches)  # type: ignore[no-untyped-call]
    return result


class _TokenShift(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, reaches: Tensor) -> Tensor:
        x, weight, reaches = x.contiguous(), weight.contiguous(), reaches.contiguous()
        out = x.new_empty(len(weight), *x.shape)
        cpu.forward(x.detach().numpy(), weight.detach().numpy(), reaches.numpy(), out.numpy())
        ctx.save_for_backward(x, weight, reaches)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, reaches = ctx.saved_tensors
        g = grads[0].contiguous()
        dx = torch.empty_like(x)
        dw = weight.new_empty(x.shape[0], *weight.shape)  # one a sequence, added up in order
        arrays = (part.numpy() for part in (x, weight, reaches, g, dx, dw))
        cpu.backward(*arrays)
        return dx, dw.sum(0), None
