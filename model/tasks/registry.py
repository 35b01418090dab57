"""The tasks by name. Nothing else names one, but for the measurements of copying and a default."""

from model.registry import Registry
from model.tasks.base import Task

TASKS: Registry[type[Task]] = Registry("task", {"copying": "model.tasks.copying:Copying"})
"""Classes of tasks (`model.tasks.base.Task`), each in a file of its own; `TASKS.register` adds one
from outside."""
