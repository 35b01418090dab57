"""Relations whose pairs are normalized and activated in other ways. `README.md` says which.

What the paper's relation owes to its normalization and its exponential is seen when they are
replaced. `pairwise_relation` takes whole sequences and is differentiable; `cpu_layers.py` continues
ragged batches of sequences from their pools.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.device import is_on_device
from causalrn.model.ops.norm import norm
from causalrn.model.ops.pairwise import cpu_whole
from causalrn.model.ops.pairwise.form import Form
from causalrn.model.ops.pairwise.formulas import related

_DEVICE_NUMBERS = 1 << 26  # of pairs, that a device holds at a time


def pairwise_relation(
    a: Tensor, b: Tensor, form: Form, temperature: Tensor, coefficients: Tensor, eps: float
) -> Tensor:
    """Mean over `v <= t` of `φ(τ·n(a_t, b_v))`, with n and φ of a form.

    Takes O(T) memory.

    Args:
        a: readers of shape `[B, T, H, K]`, float32.
        b: memories of shape `[B, T, H, K]`, float32.
        form: what is done to pairs.
        temperature: τ of each head, `[H]` float32.
        coefficients: of the polynomials, from the constant one on, `[4]` float32; other activations
            do without.
        eps: added to what is divided by.

    Returns:
        `[B, T, H, K]` float32.

    Raises:
        ValueError: the shapes differ, or are of another form.
    """
    if a.ndim != 4 or a.shape != b.shape:
        raise ValueError(f"a and b must both be [B, T, H, K], got {a.shape} and {b.shape}")
    if form.normalization == "separate":
        a, b = norm(a, eps), norm(b, eps)
    if is_on_device(a):
        return _by_readers(a, b, form, temperature, coefficients, eps)
    result: Tensor = _Pairwise.apply(a, b, form, temperature, coefficients, eps)  # type: ignore[no-untyped-call]
    return result


def _by_readers(
    a: Tensor, b: Tensor, form: Form, temperature: Tensor, coefficients: Tensor, eps: float
) -> Tensor:
    """The formulas as they stand, of a few readers at a time; gradients compute them again."""
    length = a.shape[1]
    n_readers = max(1, _DEVICE_NUMBERS // b.numel())

    def mean(first: int, a: Tensor, b: Tensor, temperature: Tensor, coefficients: Tensor) -> Tensor:
        places = torch.arange(length, device=a.device)
        counts = places[first : first + n_readers, None] + 1
        added = related(a[:, :, None] + b[:, None, :], form, temperature, coefficients, eps)
        seen = (places < counts)[None, :, :, None, None]
        return added.where(seen, 0.0).sum(2) / counts[None, :, :, None]

    parts = [
        checkpoint(
            mean, first, a[:, first : first + n_readers], b, temperature, coefficients,
            use_reentrant=False,
        )
        for first in range(0, length, n_readers)
    ]  # fmt: skip
    return torch.cat(parts, 1)


def _groups(x: Tensor) -> Tensor:
    """`[B, T, H, K]` to contiguous `[B·H, T, K]`."""
    return x.transpose(1, 2).flatten(0, 1).contiguous()


class _Pairwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        b: Tensor,
        form: Form,
        temperature: Tensor,
        coefficients: Tensor,
        eps: float,
    ) -> Tensor:
        ctx.shape, ctx.form, ctx.eps = a.shape, form, eps
        batch, _, heads, _ = a.shape
        a, b = _groups(a), _groups(b)
        out = torch.empty_like(a)
        cpu_whole.forward(
            a.numpy(), b.numpy(), form.codes, eps, temperature.detach().numpy(),
            coefficients.detach().numpy(), jit.num_threads(), out.numpy(),
        )  # fmt: skip
        ctx.save_for_backward(a, b, temperature, coefficients)
        related: Tensor = out.unflatten(0, (batch, heads)).transpose(1, 2)
        return related

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        batch, _, heads, _ = ctx.shape
        a, b, temperature, coefficients = ctx.saved_tensors
        g = _groups(grads[0])
        changes = torch.empty_like(a), torch.empty_like(b)
        of_groups = torch.empty(len(a), len(coefficients) + 1, dtype=torch.float64)
        cpu_whole.backward(
            a.numpy(), b.numpy(), g.numpy(), ctx.form.codes, ctx.eps, temperature.numpy(),
            coefficients.numpy(), jit.num_threads(), *(change.numpy() for change in changes),
            of_groups.numpy(),
        )  # fmt: skip
        if ctx.form.is_centred:
            for change in changes:
                change -= change.mean(-1, keepdim=True)
        da, db = (change.unflatten(0, (batch, heads)).transpose(1, 2) for change in changes)
        of_heads = of_groups.unflatten(0, (batch, heads)).sum(0)
        return (
            da, db, None, of_heads[:, -1].to(temperature.dtype),
            of_heads[:, :-1].sum(0).to(coefficients.dtype), None,
        )  # fmt: skip
