"""Logits on the CPU, one compiled call for all rows that are wanted."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.ops.cpu import jit
from model.ops.cpu.linear import add_product
from model.ops.norm.cpu import normalize
from model.step import Step

_TILE = 8  # rows that one thread takes at a time


def classify(classifier: Any, step: Step, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """The logits `[M, V]` of a `model.classifier.Classifier` after the tokens of some rows."""
    (weight,) = classifier.views()
    logits = np.empty((len(rows), len(weight)), np.float32)
    z = step.scratch.rows("inputs", 3, weight.shape[1])[0]
    work = logits.size * weight.shape[1] // 8
    _classify(step.x, rows, classifier.norm_eps, weight, z, logits, work=work)
    return logits


@jit.dealt_kernel
def _classify(x, rows, eps, w, z, logits):
    """Write the logits after some of the tokens.

    Args:
        x: `[N, D]`.
        rows: `[M]` int64, the rows of `x` that are wanted.
        eps: added to deviations.
        w: `[V, D]`.
        z: `[M, D]` scratch.
        logits: `[M, V]`, written.
    """
    for tile in jit.prange((rows.shape[0] + _TILE - 1) // _TILE):
        first, last = tile * _TILE, min((tile + 1) * _TILE, rows.shape[0])
        for m in range(first, last):
            normalize(x[rows[m]], eps, z[m])
            logits[m] = 0.0
        add_product(z, first, last, w, logits)
