"""Pairwise relations in float64, written to be read. Every other backend is compared with this one.

Sources: Cui et al. (arXiv 2406.16168), whose relation and its ablations these are; Zhuo et al.,
"Polynomial Composition Activations" (arXiv 2411.03884), for PolyReLU and PolyNorm.
"""

import torch
from torch import Tensor

from causalrn.model.ops.norm.reference import norm
from causalrn.model.ops.pairwise.form import Form
from causalrn.model.ops.pairwise.formulas import related


def pairwise_relation(
    a: Tensor, b: Tensor, form: Form, temperature: Tensor, coefficients: Tensor, eps: float
) -> Tensor:
    """See `causalrn.model.ops.pairwise.pairwise_relation`; in float64, materialises all pairs."""
    a, b = a.double(), b.double()
    if form.normalization == "separate":
        a, b = norm(a, eps), norm(b, eps)
    pairs = a[:, :, None] + b[:, None, :]  # [B, T, S, H, K]
    added = related(pairs, form, temperature.double(), coefficients.double(), eps)
    length = a.shape[1]
    seen = torch.ones(length, length, dtype=torch.bool, device=a.device).tril()
    counts = torch.arange(1, length + 1, dtype=a.dtype, device=a.device)
    return added.where(seen[None, :, :, None, None], 0.0).sum(2) / counts[None, :, None, None]
