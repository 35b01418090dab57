"""Pairwise relations over whole sequences, compiled by Numba, and their gradients.

Sequences are float32 `[G, T, K]`, one group g a (sequence, head); `temperatures` is `[H]`, of group
g the one at `g % H`. See `cpu.py` for the others.
"""

import numpy as np

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.dealing import take
from causalrn.model.ops.pairwise.cpu import (
    N_ROWS,
    WEIGHED,
    add_activation,
    add_pair_gradients,
    normalize_pair,
)

_F0, _F1 = np.float32(0.0), np.float32(1.0)


@jit.kernel
def forward(a, b, form, eps, temperatures, coefficients, n_threads, out):
    """out[g, t] = mean over v <= t of φ(pair of a[g, t] and b[g, v]); overwritten."""
    n_groups, length, k = a.shape
    taken = np.zeros(1, np.int64)
    for _ in jit.prange(n_threads):
        space = np.empty((N_ROWS, k), np.float32)
        g = take(taken, 0)
        while g < n_groups:
            temperature = temperatures[g % temperatures.shape[0]]
            for t in range(length):
                row = out[g, t]
                for i in range(k):
                    row[i] = _F0
                for v in range(t + 1):
                    normalize_pair(a[g, t], b[g, v], form, eps, temperature, space)
                    add_activation(form, coefficients, space, row)
                weight = _F1 / np.float32(t + 1)
                for i in range(k):
                    row[i] *= weight
            g = take(taken, 0)


@jit.kernel
def backward(a, b, g, form, eps, temperatures, coefficients, n_threads, da, db, changes):
    """Gradients of `forward`, given that of its output.

    Args:
        g: gradient of the output, `[G, T, K]`.
        da, db: overwritten; up to their mean over K if pairs are centred.
        changes: `[G, 5]` float64, gradients of the coefficients and of the temperature that come
            of each group; overwritten.
        The others are as for `forward`.
    """
    n_groups, length, k = a.shape
    taken = np.zeros(1, np.int64)
    for _ in jit.prange(n_threads):
        space = np.empty((N_ROWS, k), np.float32)
        weighed = space[WEIGHED]
        group = take(taken, 0)
        while group < n_groups:
            temperature = temperatures[group % temperatures.shape[0]]
            da[group] = _F0
            db[group] = _F0
            changes[group] = 0.0
            for t in range(length):
                weight = _F1 / np.float32(t + 1)
                for i in range(k):
                    weighed[i] = weight * g[group, t, i]
                for v in range(t + 1):
                    add_pair_gradients(
                        a[group, t], b[group, v], form, eps, temperature, coefficients, space,
                        da[group, t], db[group, v], changes[group],
                    )  # fmt: skip
            group = take(taken, 0)
