"""A check that a checkpoint copies, for the measurements of copying."""

from model.checkpoint import Checkpoint
from model.evaluation.errors import EvaluationError
from model.tasks.copying import Copying


def copying_task(checkpoint: Checkpoint) -> Copying:
    """The task of a checkpoint that copies.

    Raises:
        EvaluationError: it was trained on another task.
    """
    if isinstance(checkpoint.task, Copying):
        return checkpoint.task
    raise EvaluationError(
        f"{checkpoint.name} was trained on the task {checkpoint.task.name!r}, and this measures "
        f"{Copying.name!r}; `causalrn evaluate` takes both"
    )
