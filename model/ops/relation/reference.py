"""The relations in float64, written to be read. Every other backend is compared with this one.

Source: Cui et al., "An All-MLP Sequence Modeling Architecture That Excels at Copying"
(arXiv 2406.16168), equations in `README.md` beside this file.
"""

import torch
from torch import Tensor

from causalrn.model.ops.norm.reference import norm


def normalized_relation(a: Tensor, b: Tensor, eps: float) -> Tensor:
    """Mean over the pool of `exp(norm(a_t + b_v))`, `v <= t`.

    Args:
        a: readers of shape `[B, T, H, K]`, K channels a head.
        b: memories of shape `[B, T, H, K]`.
        eps: added to the standard deviation of each pair.

    Returns:
        `[B, T, H, K]` in float64. Materialises all pairs: `B·T²·H·K` numbers.
    """
    a, b = a.double(), b.double()
    length = a.shape[1]
    pairs = norm(a[:, :, None] + b[:, None, :], eps).exp()  # [B, T, S, H, K]
    seen = torch.ones(length, length, dtype=torch.bool, device=a.device).tril()
    counts = torch.arange(1, length + 1, dtype=a.dtype, device=a.device)
    masked = pairs.masked_fill(~seen[None, :, :, None, None], 0.0)
    return masked.sum(2) / counts[None, :, None, None]


def separable_relation(a: Tensor, b: Tensor, eps: float) -> Tensor:
    """`exp(norm(a_t))` times the mean over `v <= t` of `exp(norm(b_v))`.

    Args and result as `normalized_relation`; needs `O(T)` memory only.
    """
    a, b = norm(a.double(), eps), norm(b.double(), eps)
    counts = torch.arange(1, a.shape[1] + 1, dtype=a.dtype, device=a.device)
    return a.exp() * b.exp().cumsum(1) / counts[None, :, None, None]


def keyed_relation(
    a: Tensor,
    b: Tensor,
    temperature: Tensor,
    *,
    d_value: int,
    recency: float,
    eps: float,
    forgiven: Tensor | None = None,
) -> Tensor:
    """Sum over the pool of `exp(τ·norm(a_t + b_v))`, of the value channels, `v <= t`.

    Each weight is divided by `(1 + t - v)^recency`, and all weights of a reader by the largest of
    them, which is constant for the gradient: the norm that follows the relation takes it out again.

    Args:
        a: readers `[B, T, R]`, or `[B, T, R - d_value]` if they say nothing of values.
        b: memories `[B, T, R]`, keys first; the last `d_value` channels are values.
        temperature: τ, a scalar.
        d_value: channels that are exponentiated.
        recency: how fast weights fall with age, 0 for not at all.
        eps: added to the standard deviation of each pair.
        forgiven: `[B, T, T]`, by reader and memory, as for `normalized_values`.

    Returns:
        `[B, T, d_value]` in float64. Materialises all pairs: `B·T²·R` numbers.
    """
    a, b, temperature = a.double(), b.double(), temperature.double()
    a = torch.nn.functional.pad(a, (0, b.shape[-1] - a.shape[-1]))
    length = b.shape[1]
    z = normalized_values(a[:, :, None] + b[:, None, :], d_value, eps, forgiven)  # [B, T, S, *]
    places = torch.arange(length, dtype=a.dtype, device=a.device)
    ages = places[:, None] - places
    exponents = temperature * z - recency * ages.clamp(min=0).log1p()[..., None]
    exponents = exponents.masked_fill((ages < 0)[..., None], -torch.inf)
    largest = exponents.detach().amax((2, 3), keepdim=True)
    return (exponents - largest).exp().sum(2)


def normalized_values(
    pairs: Tensor, d_value: int, eps: float, forgiven: Tensor | None = None
) -> Tensor:
    """The value channels of normalized pairs.

    Args:
        pairs: `[*, R]`, keys first.
        d_value: channels that are values.
        eps: added to the standard deviation of each pair.
        forgiven: `[*]`, how much of the sum of the squares of a pair's keys counts as nothing; what
            keys add up to is then left out of the mean. All that keys leave counts if left out.

    Returns:
        `[*, d_value]`.
    """
    width = pairs.shape[-1]
    if forgiven is None:
        return norm(pairs, eps)[..., -d_value:]
    keys, values = pairs.split([width - d_value, d_value], -1)
    left = (keys.square().sum(-1) - forgiven).clamp(min=0)
    mean = values.sum(-1) / width
    variance = (left + values.square().sum(-1)) / width - mean**2
    deviation = variance.clamp(min=0).sqrt() + eps
    normalized: Tensor = (values - mean[..., None]) / deviation[..., None]
    return normalized


def full_match(reaches: Tensor, energy: Tensor) -> Tensor:
    """What a full match leaves of the keys: the energy of what the memory alone has seen.

    A memory's turn that began no later than the reader's may be nothing but the reader's and, in
    front of it, tokens that the reader has not seen. (A little more, `1e-12·energy[0]`, is for what
    rounding leaves, and for tokens that are too old to count.)

    Args:
        reaches: `[B, T]` (`causalrn.model.ops.positions`).
        energy: `[n_taps]`, squares of the keys that come of each of the last tokens. A memory's
            taps are one token behind, and borders of turns have no energy.

    Returns:
        `[B, T, T]` in float64, by reader and memory.
    """
    energy = energy.double()
    taps = torch.arange(len(energy))
    seen_by_memory = taps < reaches[:, None, :, None] - 1
    seen_by_reader = taps < reaches[:, :, None, None]
    return 1e-12 * energy[0] + (energy * (seen_by_memory & ~seen_by_reader)).sum(-1)
