"""Logits on a device, of all rows that are wanted, and which of them are the largest."""

from typing import Any

import triton
import triton.language as tl

from causalrn.model.ops.gpu.linear import multiply
from causalrn.model.ops.norm.gpu import norm_rows
from causalrn.model.step import Step


@triton.jit
def find_likeliest(logits, likeliest, n_logits, LOGITS: tl.constexpr):
    """Of each row the first place of the largest logit, or -1 if they are not all finite."""
    row = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, LOGITS)
    is_there = place < n_logits
    own = tl.load(logits + row * n_logits + place, is_there, 0.0)
    is_finite = tl.min(tl.where(tl.abs(own) < float("inf"), 1, 0), 0)
    own = tl.where(is_there, own, float("-inf"))
    found = tl.argmax(own, 0)
    tl.store(likeliest + row, tl.where(is_finite == 1, found, -1))


def classify(classifier: Any, step: Step, layer: None) -> None:  # noqa: ARG001
    """Write the logits of a step; see `causalrn.model.classifier.Classifier`."""
    device = step.scratch
    n = len(device.batch.rows)
    if not n:
        return
    d = classifier.weight.shape[1]
    z = device.room("inputs", device.batch.n_rows, d)
    norm_rows(step.x, z, classifier.norm_eps)
    multiply(z, classifier.weight, None, device.logits, n_rows=n, rows=device.batch.rows)
    n_logits = device.logits.shape[1]
    find_likeliest[(n,)](
        device.logits, device.likeliest, n_logits, LOGITS=triton.next_power_of_2(n_logits)
    )
