"""Logits on the CPU, of all rows that are wanted."""

from typing import Any

import numpy as np

from model.ops.cpu import jit
from model.ops.cpu.dealing import take
from model.ops.cpu.linear import add_product
from model.ops.cpu.operations import Work, operation
from model.ops.cpu.records import F32, F64
from model.ops.norm.cpu import normalize
from model.state import DecoderState

_TILE = 8  # rows that one thread takes at a time


def logits_work(classifier: Any, layer: None, state: DecoderState) -> Work:  # noqa: ARG001
    """What a `model.classifier.Classifier` asks for: the logits after some tokens of a step."""
    (weight,) = classifier.views()
    space = state.scratch
    values = {
        "eps": classifier.norm_eps,
        "w": weight,
        "z": space.rows("inputs", 3, weight.shape[1])[0],
    }
    return Work(values, per_row=weight.size // 8)


@operation(eps=F64, w=F32[:, ::1], z=F32[:, ::1])
def classify(x, rows, logits, n_threads, eps, w, z):
    """Write the logits of the step.

    Args:
        eps: added to deviations.
        w: `[V, D]`.
        z: `[M, D]` or longer, scratch.
        The others are those of the step.
    """
    n_tiles = (rows.shape[0] + _TILE - 1) // _TILE
    taken = np.zeros(1, np.int64)
    for _ in jit.prange(n_threads):
        tile = take(taken, 0)
        while tile < n_tiles:
            first, last = tile * _TILE, min((tile + 1) * _TILE, rows.shape[0])
            for m in range(first, last):
                normalize(x[rows[m]], eps, z[m])
                logits[m] = 0.0
            add_product(z, first, last, w, logits)
            tile = take(taken, 0)
