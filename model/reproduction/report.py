"""The report of an experiment: every number, and the command that it came from."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from causalrn.model.reproduction.figures import figures
from causalrn.model.reproduction.models import find_model
from causalrn.model.reproduction.plan import Plan
from causalrn.model.reproduction.results import Result
from causalrn.model.tables import markdown

_HEAD = [
    "task", "model", "L", "width", "bytes", "learning rate", "batch", "outcome", "steps", "minutes",
    "soft", "hard", "exact",
]  # fmt: skip


_ABOUT = (
    "L is the number of letters of a string, or what else a task counts; bytes are those that a "
    "model has of a sequence at its end. Soft, hard and exact are per cent of 128 strings that "
    "were held out: letters that are right where the model reads what it should have written, and "
    "where it reads what it wrote (0 for a string that does not end where it should), and strings "
    "without a mistake. A training ends early that makes none. Other tasks have one accuracy. One "
    "of several learning rates may be swept out."
)


def per_cent(share: float) -> str:
    """A share in per cent, rounded down: 100 means all."""
    return f"{math.floor(1000 * share) / 10:.1f}"


def table(results: Iterable[Result]) -> str:
    """A Markdown table of results."""
    return markdown([_HEAD, *map(_row, results)])


def beyond(results: Iterable[Result]) -> str:
    """A Markdown table of strings of other lengths than those of training; empty without any."""
    found = [result for result in results if result.beyond]
    lengths = sorted({length for result in found for length, _, _ in result.beyond})
    rows = [["model", "trained on", *map(str, lengths)]]
    for result in found:
        job = result.job
        own = {length: per_cent(hard) for length, hard, _ in result.beyond}
        trained = f"{job.shortest or job.length} to {job.length}"
        rows.append([find_model(job.model).title, trained, *(own.get(n, "") for n in lengths)])
    return markdown(rows) if found else ""


def _row(result: Result) -> list[str]:
    job = result.job
    shares = [per_cent(share) for share in (result.soft, result.hard, result.exact)]
    return [
        job.task, find_model(job.model).title, f"{job.length}", f"{job.width}",
        f"{job.memory():,}", f"{job.learning_rate:g}", f"{job.batch}",
        result.outcome.partition(":")[0], f"{result.step:,}", f"{result.seconds / 60:.1f}", *shares,
    ]  # fmt: skip


def write_report(folder: Path, name: str, plan: Plan, results: Sequence[Result]) -> Path:
    """Write the report and the figures that go with it.

    Args:
        folder: for both.
        name: of the plan.
        plan: that was followed.
        results: of its jobs, as far as there are any.

    Returns:
        The file of the report.
    """
    from causalrn.model.drawing import png, svg  # Matplotlib is slow to import

    n_jobs = sum(len(contest.jobs) for contest in plan.contests())
    parts = [
        f"# {name}: {plan.summary or 'an experiment'}\n",
        f"{len(results)} of {n_jobs} trainings are over. `causalrn reproduce --plan {name}` does "
        "them all, and goes on after a break.\n",
    ]
    for drawing, about, draw in figures(results):
        (folder / f"{drawing}.svg").write_text(svg(draw), encoding="utf-8")
        (folder / f"{drawing}.png").write_bytes(png(draw))
        parts.append(f"![{about}]({drawing}.svg)\n\n{about}\n")
    others = beyond(results)
    devices = sorted({f"{r.device}, threads: {r.threads}" for r in results})
    parts += [
        "## All numbers\n",
        table(results),
        f"{_ABOUT}\n",
        f"Hard accuracy of strings of other lengths:\n\n{others}" if others else "",
        f"Computed on {'; '.join(devices)}.\n" if devices else "",
    ]
    file = folder / "report.md"
    file.write_text("\n".join(parts), encoding="utf-8")
    return file
