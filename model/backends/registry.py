"""The backends by name. Nothing else in the project names one, but for the default."""

from typing import TYPE_CHECKING

from model.registry import Registry

if TYPE_CHECKING:
    from model.backends.base import Backend

DEFAULT = "cpu"

BACKENDS: "Registry[type[Backend]]" = Registry("backend", {"cpu": "model.backends.cpu:CpuBackend"})
"""Classes of backends, each in a file of its own; `BACKENDS.register` adds one from outside."""
