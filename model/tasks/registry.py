"""The tasks by name. Presets (as a default) and the measurements of copying name one as well."""

from model.registry import Registry
from model.tasks.base import Task

TASKS: Registry[type[Task]] = Registry("task", {"copying": "model.tasks.copying:Copying"})
"""Classes of tasks (`model.tasks.base.Task`), each in a file of its own; `TASKS.register` adds one
from outside."""
