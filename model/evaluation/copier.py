"""Checks that a checkpoint copies, and recalls, for the measurements of both."""

from causalrn.model.checkpoint import Checkpoint
from causalrn.model.evaluation.errors import EvaluationError
from causalrn.model.tasks.copying import Copying


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


def recalling_task(checkpoint: Checkpoint) -> Copying:
    """The task of a checkpoint that copies and recalls.

    Raises:
        EvaluationError: it was trained on another task, or without recall.
    """
    task = copying_task(checkpoint)
    if "recall" in task.modes:
        return task
    raise EvaluationError(
        f"{checkpoint.name} was not trained for recall; `causalrn evaluate` and "
        "`causalrn evaluate-turns` measure how it copies"
    )


def reads_text(checkpoint: Checkpoint) -> bool:
    """Whether a model takes texts of any characters, rather than letters only."""
    return checkpoint.tokenizer.name == "bytes"
