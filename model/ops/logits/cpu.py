"""Logits on the CPU, of all rows that are wanted."""

from typing import Any

import numpy as np

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.dealing import take
from causalrn.model.ops.cpu.linear import add_product
from causalrn.model.ops.cpu.operations import Work, operation
from causalrn.model.ops.cpu.records import F32, F64
from causalrn.model.ops.norm.cpu import normalize
from causalrn.model.state import DecoderState

_TILE = 8  # rows that one thread takes at a time
_RUN = 64  # logits that are compared before the largest so far is
_MAGNITUDE = 0x7FFFFFFF  # the bits of a float32 but its sign's
_INFINITY = 0x7F800000  # as an integer; every other magnitude that is not finite is larger


def logits_work(classifier: Any, layer: None, state: DecoderState) -> Work:  # noqa: ARG001
    """What a `causalrn.model.classifier.Classifier` asks for: logits after some tokens."""
    (weight,) = classifier.views()
    space = state.scratch
    values = {
        "eps": classifier.norm_eps,
        "w": weight,
        "z": space.rows("inputs", 3, weight.shape[1])[0],
    }
    return Work(values, per_row=weight.size // 8)


@operation(eps=F64, w=F32[:, ::1], z=F32[:, ::1])
def classify(x, rows, logits, likeliest, n_threads, eps, w, z):
    """Write the logits of the step, and which of them are the largest.

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
            for m in range(first, last):
                likeliest[m] = find_likeliest(logits[m])
            tile = take(taken, 0)


@jit.inline
def find_likeliest(logits):
    """The first place of the largest of `[V]`, or -1 if they are not all finite."""
    # As integers of the same order, because only these are compared many at a time; and run by run,
    # so that only one of them is searched.
    bits = logits.view(np.int32)
    largest, magnitude, place = np.int32(-_INFINITY), np.int32(0), 0
    n_whole = bits.shape[0] - bits.shape[0] % _RUN
    for first in range(0, n_whole, _RUN):
        own = largest
        for i in range(_RUN):
            own = max(own, _key(bits[first + i]))
            magnitude = max(magnitude, bits[first + i] & np.int32(_MAGNITUDE))
        if own > largest:
            largest, place = own, first
    for i in range(n_whole, bits.shape[0]):
        magnitude = max(magnitude, bits[i] & np.int32(_MAGNITUDE))
        if _key(bits[i]) > largest:
            largest, place = _key(bits[i]), i
    if magnitude >= _INFINITY:
        return -1
    while _key(bits[place]) != largest:
        place += 1
    return place


@jit.inline
def _key(bits):
    """An integer for the bits of a float32, in its order; zeros of both signs have the same."""
    sign = bits >> np.int32(31)  # all bits set, or none
    return np.int32(((bits & np.int32(_MAGNITUDE)) ^ sign) - sign)
