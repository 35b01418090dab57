"""The mixers by name. But for `causalrn.model.construction`, nothing else in the project names one.

The type of what is found is left open here: naming it would import torch, which
`causalrn.model.config` does without.
"""

from typing import Any

from causalrn.model.registry import Registry

MIXERS: Registry[Any] = Registry(
    "mixer",
    {
        "attention": "causalrn.model.mixers.attention:Attention",
        "linear_attention": "causalrn.model.mixers.attention:LinearAttention",
        "matrix_state": "causalrn.model.mixers.matrix_state:MatrixState",
        "normalized": "causalrn.model.mixers.normalized:NormalizedRelation",
        "pairwise": "causalrn.model.mixers.pairwise:PairwiseRelation",
        "separable": "causalrn.model.mixers.separable:SeparableRelation",
        "taps": "causalrn.model.mixers.taps:Taps",
    },
)
"""Classes of mixers (`causalrn.model.mixers.base.Mixer`), each in a file of its own;
`MIXERS.register` adds one from outside."""
