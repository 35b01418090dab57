"""Activations in float32, branch-free, so that loops over channels become SIMD code."""

import math

import numpy as np

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.lanes import exp2

_F1 = np.float32(1.0)
_LOG2E = np.float32(math.log2(math.e))
_LEAST, _MOST = np.float32(-126.0), np.float32(128.0)


@jit.inline
def exp(x):
    """e^x: infinite where float32 ends, and 1e-38 where it would be less."""
    return exp2(min(max(x * _LOG2E, _LEAST), _MOST))


@jit.inline
def sigmoid(x):
    """1 / (1 + e^-x)."""
    return _F1 / (_F1 + exp(-x))
