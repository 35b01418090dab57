"""The mixers by name. Nothing else in the project names one.

Plain Python: what a name stands for is imported when it is asked for, so that `model.config` can be
read without tensors.
"""

from typing import Any

from model.registry import Registry

MIXERS: Registry[Any] = Registry(
    "mixer",
    {
        "normalized": "model.mixers.normalized:NormalizedRelation",
        "separable": "model.mixers.separable:SeparableRelation",
    },
)
"""Subclasses of `model.mixers.base.Mixer`; `MIXERS.register` adds one from outside."""
