"""Shows how a training goes: its numbers, what it scores on held-out data, and what it writes."""

import time
from typing import Self

from causalrn.model.generation import generate
from causalrn.model.sampling import SamplingParams
from causalrn.model.tasks.base import Validates
from causalrn.model.terminal import progress_bar, say
from causalrn.model.training.trainer import Progress, Trainer

_TIMES = 20  # that a training is scored by held-out data, if that takes little of its time
_LITTLE = 0.1
_SAMPLE = 64  # tokens
_SAMPLING = SamplingParams(temperature=0.7, top_p=0.95, seed=0)


class Watched:
    """The display of a training.

    Args:
        job: the training.
    """

    def __init__(self, job: Trainer) -> None:
        self._job = job
        self._next = 1 + int(_TIMES * job.share)
        self._scored, self._took = job.seconds, 0.0
        self._bar = progress_bar("{task.fields[numbers]}")
        optimizer = job.preset.optimizer
        self._goes_by_time = bool(optimizer.minutes)
        total = 60 * optimizer.minutes or optimizer.last_step
        self._task = self._bar.add_task(job.preset.name, total=total, numbers="")
        self._update("")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def report(self, now: Progress) -> None:
        """Show a step, and now and then what the model has learned."""
        values = {"loss": now.loss, **now.scores}
        numbers = [f"{name} {value:.4f}" for name, value in values.items()]
        numbers.append(f"{now.tokens_per_second:,.0f} tokens/s")
        numbers += [f"{name} {value:g}" for name, value in now.notes.items()]
        self._update(" · ".join(numbers))
        job = self._job
        is_due = job.share * _TIMES >= self._next
        if job.is_over or (is_due and (job.seconds - self._scored) * _LITTLE > self._took):
            began = time.monotonic()
            self._validate()
            self._next = 1 + int(_TIMES * job.share)
            self._scored, self._took = job.seconds, time.monotonic() - began

    def _update(self, numbers: str) -> None:
        job = self._job
        completed = int(job.seconds) if self._goes_by_time else job.step
        self._bar.update(self._task, completed=completed, numbers=numbers)

    def _validate(self) -> None:
        job = self._job
        task = job.preset.blueprint.task
        if not isinstance(task, Validates):
            return
        scores = task.validate(job.model)
        sample = self._sample(task.beginning())
        job.run.log({"step": job.step, **scores, "sample": sample})
        numbers = ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
        say(f"step {job.step:,}: {numbers}; it writes: {sample!r}")

    def _sample(self, beginning: list[int]) -> str:
        model = self._job.checkpoint()
        length = min(_SAMPLE, model.config.max_seq_len - len(beginning) - 1)
        steps = generate(model, [beginning], max_tokens=[length], sampling=_SAMPLING)
        return model.tokenizer.decode([*beginning, *(step[0] for step in steps if step)])
