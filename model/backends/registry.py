"""The backends by name. Nothing else in the project names one."""

from model.backends.base import Backend
from model.registry import Registry

DEFAULT = "cpu"
"""What decoders serve on unless another backend is asked for."""

BACKENDS: Registry[type[Backend]] = Registry(
    "backend",
    {"cpu": "model.backends.cpu:CpuBackend", "gpu": "model.backends.gpu:GpuBackend"},
)
"""Classes of backends (`model.backends.base.Backend`), each in a file of its own;
`BACKENDS.register` adds one from outside."""
