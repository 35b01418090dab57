"""The tasks by name. Presets (as a default) and the measurements of copying name one as well."""

from model.registry import Registry
from model.tasks.base import Task

TASKS: Registry[type[Task]] = Registry(
    "task",
    {
        "associative": "model.tasks.associative:AssociativeRecall",
        "copying": "model.tasks.copying:Copying",
        "induction": "model.tasks.induction:Induction",
        "languages": "model.tasks.languages:RegularLanguages",
        "selective": "model.tasks.selective:SelectiveCopying",
        "text": "model.tasks.text:Text",
    },
)
"""Classes of tasks (`model.tasks.base.Task`), each in a file of its own; `TASKS.register` adds one
from outside."""
