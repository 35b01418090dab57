"""The normalization of rows on the CPU, forward and backward."""

import math

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.dealing import add, take_near, wait_for
from causalrn.model.ops.cpu.lanes import row_dot, row_sum

_TILE = 8  # rows that one thread takes at a time


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


@jit.inline
def normalize_rows(near, thread, n_threads, done, x, n_rows, eps, z):
    """Normalize the new rows, and wait until all are.

    Tiles are taken from the first row of `near`, and the first counter of `done` says how many are
    done.

    Args:
        near: `[1 or more, n_threads]` int64, see `take_near`.
        thread: that takes part.
        n_threads: that there are.
        done: `[1 or more]` int64.
        x: `[N, D]` float32, or longer.
        n_rows: N.
        eps: added to deviations.
        z: as `x`, written.
    """
    n_tiles = (n_rows + _TILE - 1) // _TILE
    tile = take_near(near[0], thread, n_threads, n_tiles)
    while tile < n_tiles:
        for n in range(tile * _TILE, min((tile + 1) * _TILE, n_rows)):
            normalize(x[n], eps, z[n])
        add(done, 0, 1)
        tile = take_near(near[0], thread, n_threads, n_tiles)
    wait_for(done, 0, n_tiles)


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
