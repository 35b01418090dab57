"""The tasks by name. Nothing else in the project names one, but for the default of a preset."""

from model.registry import Registry
from model.tasks.base import Task

TASKS: Registry[type[Task]] = Registry("task", {"copying": "model.tasks.copying:Copying"})
"""Classes of tasks, each in a file of its own; `TASKS.register` adds one from outside."""
