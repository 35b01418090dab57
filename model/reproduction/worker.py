"""One training of an experiment, in a process of its own.

That is `python -m causalrn.model.reproduction.worker`. It is told by a line of JSON on standard
input what to do, and tells by such lines on standard output how far it is. SIGTERM has it save its
state, from which the next worker goes on.
"""

import fcntl
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from causalrn.model.arguments import start_backend
from causalrn.model.device import Device
from causalrn.model.machine import processor
from causalrn.model.reproduction.job import Job
from causalrn.model.reproduction.measuring import measure
from causalrn.model.terminal import postponed_interrupts
from causalrn.model.training.huge_pages import use_huge_pages
from causalrn.model.training.run import Run
from causalrn.model.training.trainer import DivergedError, Progress, Trainer

_TELL_SECONDS = 1.0


@dataclass(frozen=True)
class Order:
    """What a worker is to do.

    Attributes:
        job: the training.
        folder: for its state.
        until: the step to stop after, if not before.
        evaluate_every: see `causalrn.model.reproduction.plan.Plan`.
        threads: to compute with.
        device: to compute on.
    """

    job: Job
    folder: str
    until: int
    evaluate_every: int
    threads: int
    device: Device

    def to_line(self) -> str:
        """For standard input."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> "Order":
        """What `to_line` made a line of."""
        values = json.loads(line)
        return cls(**values | {"job": Job(**values["job"])})


def _tell(**values: Any) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def work(order: Order) -> None:
    """Train until all strings are copied, or as far as was ordered."""
    start_backend(order.threads, order.device)
    with Path(order.folder, "lock").open("w") as lock:
        # A worker whose parent was killed ends when it next tells something, and has to first.
        fcntl.flock(lock, fcntl.LOCK_EX)
        _train(order)


def _train(order: Order) -> None:
    job, run = order.job, Run(Path(order.folder))
    preset = job.preset()
    trainer = Trainer(preset, run, save_every=order.evaluate_every, device=order.device)
    told_at = 0.0
    learned = any(line.get("hard") == 1 for line in run.log_lines())

    def is_over() -> bool:
        return learned or trainer.step >= order.until

    def report(now: Progress) -> None:
        nonlocal told_at, learned
        if now.step % order.evaluate_every == 0 or now.step == order.until:
            measured = measure(trainer.checkpoint(), job.seed, job.length)
            line = {"step": now.step, "loss": now.loss, "accuracy": now.scores["accuracy"]}
            run.log(line | asdict(measured))
            learned = measured.hard == 1
        if time.monotonic() - told_at > _TELL_SECONDS:
            told_at = time.monotonic()
            _tell(step=now.step, loss=now.loss, accuracy=now.scores["accuracy"])

    outcome = "learned"
    with postponed_interrupts() as interrupted:
        _tell(step=trainer.step)
        if not is_over():
            try:
                trainer.train(report, lambda: is_over() or interrupted() is not None)
            except DivergedError as error:
                outcome = f"diverged: {error}"
        if not learned and outcome == "learned":
            outcome = "stopped" if trainer.step >= order.until else "interrupted"
        device = trainer.model.backend.device
        beyond: list[tuple[int, float, float]] = []
        if learned or trainer.step == job.steps:
            for length in job.beyond:
                measured = measure(trainer.checkpoint(), job.seed, length)
                beyond.append((length, measured.hard, measured.exact))
        _tell(
            step=trainer.step,
            outcome=outcome,
            seconds=trainer.seconds,
            threads=0 if trainer.model.backend.trains_as_on_device else order.threads,
            device=processor() if device.type == "cpu" else torch.cuda.get_device_name(device),
            curve=run.log_lines(),
            beyond=beyond,
        )


if __name__ == "__main__":
    use_huge_pages()
    work(Order.from_line(sys.stdin.readline()))
