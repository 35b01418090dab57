"""Attention: what the peers of CausalRN have in place of its relations. `README.md` has formulas.

Both functions here are differentiable and take whole sequences. `cpu_layers.py` continues ragged
batches of sequences from their state, with the parts that `cpu.py` has for it.
"""

import torch
from torch import Tensor
from torch.nn.functional import elu, scaled_dot_product_attention

LEAST = 1e-10
"""Added to the denominator of linear attention."""

_CHUNK = 64  # tokens whose pairs are computed, rather than what they add to the state


def softmax_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention: mean of `v` with weights `exp(q_t · k_v / sqrt(K))`, `v <= t`.

    Args:
        q, k, v: `[B, T, H, K]`, float32 or float64.

    Returns:
        `[B, T, H, K]`.
    """
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)


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
