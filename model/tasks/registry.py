"""The tasks by name. Presets (as a default) and the measurements of copying name one as well."""

from causalrn.model.registry import Registry
from causalrn.model.tasks.base import Task

TASKS: Registry[type[Task]] = Registry(
    "task",
    {
        "associative": "causalrn.model.tasks.associative:AssociativeRecall",
        "copying": "causalrn.model.tasks.copying:Copying",
        "induction": "causalrn.model.tasks.induction:Induction",
        "languages": "causalrn.model.tasks.languages:RegularLanguages",
        "selective": "causalrn.model.tasks.selective:SelectiveCopying",
        "text": "causalrn.model.tasks.text:Text",
    },
)
"""Classes of tasks (`causalrn.model.tasks.base.Task`), each in a file of its own;
`TASKS.register` adds one from outside."""
