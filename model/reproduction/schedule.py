"""Runs the trainings of an experiment side by side, each in a process of its own."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from causalrn.model.device import Device
from causalrn.model.reproduction.job import Job
from causalrn.model.reproduction.plan import Contest
from causalrn.model.reproduction.results import Result, Results, curves_of
from causalrn.model.reproduction.worker import Order

_POLL_SECONDS = 0.2


class WorkerError(RuntimeError):
    """A worker ended before its training did. The message has its last words."""


def ready(contest: Contest, results: Mapping[str, Result]) -> list[tuple[Job, int]]:
    """What is to be done next, as far as the results tell: jobs, and until which step."""
    sweeps = contest.sweep_steps and len(contest.jobs) > 1
    first = [(job, contest.sweep_steps if sweeps else job.steps) for job in contest.jobs]
    waiting = [(job, until) for job, until in first if not _is_done(results, job, until)]
    if waiting or not sweeps:
        return waiting
    best = max((results[job.name] for job in contest.jobs), key=lambda result: result.rank).job
    return [] if _is_done(results, best, best.steps) else [(best, best.steps)]


def work_left(contest: Contest, results: Mapping[str, Result]) -> float:
    """Steps that are left at most, each as much as it costs."""
    left = ready(contest, results)
    total = sum(job.cost * (until - _step(results, job)) for job, until in left)
    if contest.sweep_steps and any(until == contest.sweep_steps for _, until in left):
        total += contest.jobs[0].cost * (contest.jobs[0].steps - contest.sweep_steps)
    return total


def _step(results: Mapping[str, Result], job: Job) -> int:
    return results[job.name].step if job.name in results else 0


def _is_done(results: Mapping[str, Result], job: Job, until: int) -> bool:
    found = results.get(job.name)
    if found is None:
        return False
    return found.step >= until or found.outcome not in ("stopped", "swept")


def gpu_of_rank(environ: Mapping[str, str]) -> dict[str, str]:
    """The variable that shows a worker the GPU of its parent, one of several by torchrun.

    Args:
        environ: of the parent.
    """
    if "LOCAL_RANK" not in environ:
        return {}
    rank = int(environ["LOCAL_RANK"])
    visible = [gpu for gpu in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    return {"CUDA_VISIBLE_DEVICES": visible[rank % len(visible)] if visible else str(rank)}


@dataclass(frozen=True)
class Now:
    """How far a training is.

    Attributes:
        job: the training.
        step: steps done.
        new: of them, since it was last told.
        accuracy: share of right tokens in the last batch; None before the first step.
    """

    job: Job
    step: int
    new: int
    accuracy: float | None


class Schedule:
    """Runs contests, the most expensive first.

    Args:
        contests: to run.
        results: where results are kept; what is in there is not run again.
        folder: for the states of trainings that are not over.
        evaluate_every: see `causalrn.model.reproduction.plan.Plan`.
        n_jobs: trainings side by side.
        threads: of each of them.
        device: to compute on.
    """

    def __init__(
        self,
        contests: Iterable[Contest],
        results: Results,
        folder: Path,
        *,
        evaluate_every: int,
        n_jobs: int,
        threads: int,
        device: Device,
    ) -> None:
        self._contests = sorted(contests, key=lambda contest: -contest.jobs[0].cost)
        self._results, self._folder = results, folder
        self._evaluate_every, self._n_jobs = evaluate_every, n_jobs
        self._threads, self._device = threads, device
        self._children: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()

    def work_left(self) -> float:
        """What `work_left` is of all contests."""
        results = self._results.read()
        return sum(work_left(contest, results) for contest in self._contests)

    def run(self, tell: Callable[[Now], None], stop: Callable[[], bool]) -> bool:
        """Run everything, or until `stop()`; the same again goes on from there.

        Args:
            tell: called whenever a training has moved, by several threads.
            stop: asked now and then.

        Returns:
            Whether everything is done.

        Raises:
            WorkerError: a worker failed; the others were stopped.
        """
        running: dict[Future[None], Job] = {}
        waiting = self._ready([])
        with ThreadPoolExecutor(self._n_jobs) as pool:
            try:
                while not stop():
                    while waiting and len(running) < self._n_jobs:
                        job, until = waiting.pop(0)
                        running[pool.submit(self._train, job, until, tell)] = job
                    if not running:
                        return True
                    done, _ = wait(running, _POLL_SECONDS, FIRST_COMPLETED)
                    for future in done:
                        del running[future]
                        future.result()
                    if done:
                        waiting = self._ready(list(running.values()))
                return not self._ready([])
            finally:
                with self._lock:
                    for child in self._children:
                        child.terminate()

    def _ready(self, running: Sequence[Job]) -> list[tuple[Job, int]]:
        results = self._results.read()
        return [
            (job, until)
            for contest in self._contests
            for job, until in ready(contest, results)
            if job not in running
        ]

    def _train(self, job: Job, until: int, tell: Callable[[Now], None]) -> None:
        """Have a worker do a training up to a step, and keep what came of it."""
        folder = self._folder / job.name
        folder.mkdir(parents=True, exist_ok=True)
        order = Order(job, str(folder), until, self._evaluate_every, self._threads, self._device)
        words = folder / "stderr.txt"
        before, last = None, ""
        with words.open("w", encoding="utf-8") as errors:
            child = self._start(errors)
            with child:
                assert child.stdin is not None
                assert child.stdout is not None
                child.stdin.write(order.to_line())
                child.stdin.close()
                for last in child.stdout:
                    now: dict[str, Any] = json.loads(last)
                    before = now["step"] if before is None else before
                    tell(Now(job, now["step"], now["step"] - before, now.get("accuracy")))
                    before = now["step"]
            with self._lock:
                self._children.discard(child)
        end = json.loads(last) if last else {}
        if "outcome" not in end:
            if child.returncode in (-15, 143):  # it was stopped before it had begun
                return
            said = words.read_text(encoding="utf-8").strip().splitlines()[-1:]
            raise WorkerError(f"{job.name}: {''.join(said) or 'the worker ended'}; see {words}")
        if end["outcome"] == "interrupted":
            return
        is_swept = end["outcome"] == "stopped" and end["step"] < job.steps
        outcome = "swept" if is_swept else end["outcome"]
        curve, copied = curves_of(end["curve"])
        self._results.put(
            Result(
                job, outcome, end["step"], round(end["seconds"], 1), end["threads"], end["device"],
                curve, copied, [tuple(one) for one in end["beyond"]],
            )
        )  # fmt: skip

    def _start(self, errors: Any) -> "subprocess.Popen[str]":
        """A worker, whose libraries find as many threads as it may use."""
        names = "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"
        own = dict.fromkeys(names, str(self._threads))
        if self._device == "cuda":
            own |= gpu_of_rank(os.environ)
        path = os.pathsep.join(map(os.path.abspath, sys.path))  # "" is the working directory
        with self._lock:
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", "causalrn.model.reproduction.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | own | {"PYTHONPATH": path},
                start_new_session=True,  # Ctrl-C is for its parent to pass on
            )
            self._children.add(child)
        return child
