"""By what the answers of a request are judged: how well the model found them, and its task."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from causalrn.model.tasks.base import Task

Finding = Literal["found", "partial", "not_found", "unknown"]
"""What became of an answer: the model found what the prompt asks for, or only in part, or too
little of it for an answer; or it cannot tell."""


@dataclass(frozen=True)
class Judge:
    """What is expected of the answers to a prompt.

    Attributes:
        task: of the model.
        mode: one of the task's.
        ids: content ids of the prompt.
        context: what the session read and wrote before the prompt.
        allow_partial: whether answers are wanted however little the model found.
    """

    task: Task
    mode: str
    ids: Sequence[int]
    context: Sequence[int] = ()
    allow_partial: bool = False

    @property
    def may_refuse(self) -> bool:
        """Whether there are matches for which there is no answer."""
        return not self.allow_partial and self.task.least_match(self.mode) > 0

    def is_too_low(self, match: float | None) -> bool:
        """Whether a match is one for which there is no answer, unless any is wanted."""
        return match is not None and match < self.task.least_match(self.mode)

    def verify(self, answer: Sequence[int]) -> bool | None:
        """Whether an answer, with the EOS that ended it, is right; None if nobody can tell."""
        return self.task.verify(self.ids, answer, self.mode, self.context)

    def finding(self, match: float | None, *, is_answered: bool) -> Finding:
        """What became of an answer, by the match at its end."""
        if not is_answered:
            return "not_found"
        if match is None:
            return "unknown"
        return "partial" if self.is_too_low(match) else "found"
