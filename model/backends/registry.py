"""The backends by name. Nothing else in the project names one."""

from causalrn.model.backends.base import Backend
from causalrn.model.registry import Registry

DEFAULT = "cpu"
"""What decoders serve on unless another backend is asked for."""

BACKENDS: Registry[type[Backend]] = Registry(
    "backend",
    {
        "cpu": "causalrn.model.backends.cpu:CpuBackend",
        "gpu": "causalrn.model.backends.gpu:GpuBackend",
    },
)
"""Classes of backends (`causalrn.model.backends.base.Backend`), each in a file of its own;
`BACKENDS.register` adds one from outside."""
