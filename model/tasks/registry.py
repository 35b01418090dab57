"""Tasks by name. A task of one's own is registered the way those of this package are."""

from model.tasks.base import Task, TaskError
from model.tasks.copying import Copying

_TASKS: dict[str, type[Task]] = {}


def register(task: type[Task]) -> type[Task]:
    """Make a task known by its name; usable as a decorator of its class.

    Raises:
        ValueError: another task has that name.
    """
    if _TASKS.setdefault(task.name, task) is not task:
        raise ValueError(f"there is a task {task.name!r} already: {_TASKS[task.name].__qualname__}")
    return task


def find(name: str) -> type[Task]:
    """The task of that name.

    Raises:
        TaskError: there is none.
    """
    if name not in _TASKS:
        known = ", ".join(sorted(_TASKS))
        raise TaskError(f"there is no task {name!r}; known tasks: {known}")
    return _TASKS[name]


register(Copying)
