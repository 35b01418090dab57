"""One token of a matrix state on the CPU, for Numba to compile.

Tokens follow each other in order, so a sequence gets the same bits in any batch, any chunking and
on any number of threads. All arrays are C-contiguous float32.
"""

import math

import numpy as np

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.activations import sigmoid
from causalrn.model.ops.cpu.lanes import row_dot
from causalrn.model.ops.matrix_state import LEAST_MEAN_SQUARE, LEAST_SQUARE

_F0 = np.float32(0.0)


@jit.inline
def activate(x):
    """x = x·sigmoid(x)."""
    for i in range(x.shape[0]):
        x[i] = x[i] * sigmoid(x[i])


@jit.inline
def make_unit(x, scale):
    """x = scale · silu(x) / |silu(x)|."""
    activate(x)
    factor = np.float32(scale / math.sqrt(row_dot(x, x, 0.0) + LEAST_SQUARE))
    for i in range(x.shape[0]):
        x[i] *= factor


@jit.inline
def fade(state, log_decay):
    """state = exp(log_decay) · state."""
    left = np.float32(math.exp(log_decay))
    for i in range(state.shape[0]):
        for j in range(state.shape[1]):
            state[i, j] *= left


@jit.inline
def write(state, key, value, beta, corrects, known):
    """state += beta · key · (value - what the state has for the key, if the write corrects it).

    Args:
        state: `[K, V]`.
        key, value: `[K]` and `[V]`.
        beta: float32.
        corrects: whether to.
        known: `[V]`, scratch.
    """
    for j in range(known.shape[0]):
        known[j] = _F0
    if corrects:
        for i in range(key.shape[0]):
            for j in range(known.shape[0]):
                known[j] += key[i] * state[i, j]
    for j in range(known.shape[0]):
        known[j] = beta * (value[j] - known[j])
    for i in range(key.shape[0]):
        for j in range(known.shape[0]):
            state[i, j] += key[i] * known[j]


@jit.inline
def read(state, query, out):
    """out = norm of stateᵀ · query, its root mean square being 1."""
    for j in range(out.shape[0]):
        out[j] = _F0
    for i in range(query.shape[0]):
        for j in range(out.shape[0]):
            out[j] += query[i] * state[i, j]
    mean = row_dot(out, out, 0.0) / out.shape[0]
    factor = np.float32(1.0 / math.sqrt(mean + LEAST_MEAN_SQUARE))
    for j in range(out.shape[0]):
        out[j] *= factor
