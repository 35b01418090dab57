"""Attention: what the peers of CausalRN have in place of its relations. `README.md` has formulas.

All functions here are differentiable and take whole sequences. `cpu_layers.py` and
`cpu_placed_layer.py` continue ragged batches of sequences from their state, with the parts that
`cpu.py` has for it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import elu, scaled_dot_product_attention

LEAST = 1e-10
"""Added to the denominator of linear attention."""

BASE = 10000.0
"""Of the angles of rotations: pair i of K channels turns by BASE^(-2i/K) from place to place."""

_CHUNK = 64  # tokens whose pairs are computed, rather than what they add to the state


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, windows: Sequence[int] = ()) -> Tensor:
    """Causal attention: mean of `v` with weights `exp(q_t · k_v / sqrt(K))`, `v <= t`.

    Args:
        q, k, v: `[B, T, H, K]`, float32 or float64.
        windows: of each head, how many of the last tokens it sees, a token's own included; 0 for
            all. Without any, all heads see all tokens.

    Returns:
        `[B, T, H, K]`.
    """
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    if not any(windows):
        return scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
    seen = _seen(windows, q.shape[2], q.device)
    return scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2)


def _seen(windows: Sequence[int], length: int, device: torch.device) -> Tensor:
    """Which tokens each one sees, `[H, T, T]` bool."""
    places = torch.arange(length, device=device)
    distances = places[:, None] - places
    widths = torch.tensor([window or length for window in windows], device=device)
    return (distances >= 0) & (distances < widths[:, None, None])


def rotate(x: Tensor) -> Tensor:
    """Turn queries or keys by their places, so that their products tell how far apart they are.

    Channels i and i + K/2 are a point in a plane, turned by `place · BASE^(-2i/K)`. Angles are
    float64, so distant places lose nothing.

    Args:
        x: `[B, T, H, K]`, float32 or float64, K even.

    Returns:
        `[B, T, H, K]`.
    """
    length, half = x.shape[1], x.shape[3] // 2
    steps = torch.arange(half, dtype=torch.float64, device=x.device) / half
    places = torch.arange(length, dtype=torch.float64, device=x.device)
    angles = places[:, None, None] * BASE**-steps
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x.split(half, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def linear_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal linear attention: mean of `v` with weights `φ(q_t) · φ(k_v)`, φ being `elu + 1`.

    Takes O(T) time, chunk by chunk.

    Args:
        q, k, v: `[B, T, H, K]`, float32 or float64.

    Returns:
        `[B, T, H, K]`.
    """
    q, k, v = (x.transpose(1, 2) for x in (elu(q) + 1, elu(k) + 1, v))
    # What is added up of values is added up of ones, too: the denominator.
    v = torch.cat([v, torch.ones_like(v[..., :1])], -1)
    state = v.new_zeros(*k.shape[:2], k.shape[-1], v.shape[-1])
    parts = []
    for first in range(0, q.shape[2], _CHUNK):
        q_now, k_now, v_now = (x[:, :, first : first + _CHUNK] for x in (q, k, v))
        parts.append(q_now @ state + (q_now @ k_now.mT).tril() @ v_now)
        state = state + k_now.mT @ v_now
    out = torch.cat(parts, 2).transpose(1, 2)
    return out[..., :-1] / (out[..., -1:] + LEAST)
