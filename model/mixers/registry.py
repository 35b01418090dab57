"""The mixers by name. But for `model.construction`, nothing else in the project names one.

The type of what is found is left open here: naming it would import torch, which `model.config` does
without.
"""

from typing import Any

from model.registry import Registry

MIXERS: Registry[Any] = Registry(
    "mixer",
    {
        "attention": "model.mixers.attention:Attention",
        "linear_attention": "model.mixers.attention:LinearAttention",
        "matrix_state": "model.mixers.matrix_state:MatrixState",
        "normalized": "model.mixers.normalized:NormalizedRelation",
        "pairwise": "model.mixers.pairwise:PairwiseRelation",
        "separable": "model.mixers.separable:SeparableRelation",
    },
)
"""Classes of mixers (`model.mixers.base.Mixer`), each in a file of its own; `MIXERS.register` adds
one from outside."""
