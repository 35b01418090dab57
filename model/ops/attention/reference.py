"""Attention in float64, written to be read. Every other implementation is compared with this one.

Sources: Vaswani et al., "Attention Is All You Need" (arXiv 1706.03762); Katharopoulos et al.,
"Transformers are RNNs" (arXiv 2006.16236); Su et al., "RoFormer" (arXiv 2104.09864), for rotations;
Jelassi et al., "Repeat After Me" (arXiv 2402.01032), for windows.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from causalrn.model.ops.attention import BASE, LEAST


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, windows: Sequence[int] = ()) -> Tensor:
    """See `causalrn.model.ops.attention.softmax_attention`; materialises all pairs."""
    q, k, v = q.double(), k.double(), v.double()
    scores = torch.einsum("bthk,bshk->bhts", q, k) / math.sqrt(q.shape[-1])
    seen = torch.ones(scores.shape[1:], dtype=torch.bool, device=q.device).tril()
    for h, window in enumerate(windows):
        if window:
            seen[h] = seen[h].triu(1 - window)
    weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
    return torch.einsum("bhts,bshk->bthk", weights, v)


def rotate(x: Tensor) -> Tensor:
    """See `causalrn.model.ops.attention.rotate`; points in a plane are complex numbers."""
    first, second = x.double().chunk(2, -1)
    points = torch.complex(first, second)
    half = points.shape[-1]
    turned = torch.empty_like(points)
    for t in range(x.shape[1]):
        for i in range(half):
            angle = t * BASE ** (-i / half)
            turn = complex(math.cos(angle), math.sin(angle))
            turned[:, t, :, i] = points[:, t, :, i] * turn
    return torch.cat([turned.real, turned.imag], -1)


def linear_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """See `causalrn.model.ops.attention.linear_attention`; token by token."""
    q, k = (torch.where(x > 0, x + 1, x.exp()) for x in (q.double(), k.double()))
    v = v.double()
    sums = v.new_zeros(*k[:, 0].shape, v.shape[-1])
    total = torch.zeros_like(k[:, 0])
    out = torch.empty_like(v)
    for t in range(v.shape[1]):
        sums += k[:, t, :, :, None] * v[:, t, :, None, :]
        total += k[:, t]
        weight = (q[:, t] * total).sum(-1, keepdim=True) + LEAST
        out[:, t] = torch.einsum("bhk,bhkv->bhv", q[:, t], sums) / weight
    return out
