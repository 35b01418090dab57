"""The normalization of rows on the CPU, forward and backward."""

import math

from model.ops.cpu import jit
from model.ops.cpu.lanes import row_dot, row_sum


@jit.kernel
def forward(x, eps, z, std):
    """Normalize the rows of `x` `[N, K]` into `z`, and write their deviations to `std` `[N]`."""
    for r in jit.prange(x.shape[0]):
        std[r] = normalize(x[r], eps, z[r])


@jit.inline
def normalize(x, eps, z):
    """Write the normalized row `x` `[K]` to `z` and return its deviation; sums in float64."""
    mean = row_sum(x, 0) / x.shape[0]
    deviation = math.sqrt(row_dot(x, x, mean) / x.shape[0])
    inv = 1.0 / (deviation + eps)
    for i in range(x.shape[0]):
        z[i] = (x[i] - mean) * inv
    return deviation


@jit.kernel
def backward(g, z, std, eps, dx):
    """dx = (g - mean(g) - z·mean(g·z)·(std + eps) / std) / (std + eps)."""
    n_rows, d = g.shape
    for r in jit.prange(n_rows):
        mean = row_sum(g, r) / d
        dot = row_dot(g[r], z[r], 0.0)
        inv = 1.0 / (std[r] + eps)
        curve = 0.0 if std[r] == 0.0 else dot / d / (std[r] * inv)
        for i in range(d):
            dx[r, i] = (g[r, i] - mean - z[r, i] * curve) * inv
