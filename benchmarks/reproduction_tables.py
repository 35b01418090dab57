"""What `causalrn reproduce` found, as the document about the paper shows it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from causalrn.model.drawing import svg
from causalrn.model.ops.pairwise.form import ACTIVATIONS
from causalrn.model.reproduction.figures import best_of, cell, figures
from causalrn.model.reproduction.models import NORMALIZATIONS, ablation_name
from causalrn.model.reproduction.plan import load_plan
from causalrn.model.reproduction.report import beyond, table
from causalrn.model.reproduction.results import Result, Results
from causalrn.model.tables import markdown

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "paper"


def results_of(folder: Path) -> list[Result]:
    """The results of a plan, which has the folder's name, in the order of the plan.

    Raises:
        KeyError: there is a result of no training of the plan.
    """
    jobs = [job.name for contest in load_plan(folder.name).contests() for job in contest.jobs]
    found = Results(folder / "results.jsonl").read()
    ordered = [found.pop(name) for name in jobs if name in found]
    if found:
        raise KeyError(f"{folder}: not in the plan: {', '.join(found)}")
    return ordered


def trainings(folder: Path) -> str:
    """All trainings of a plan that are over."""
    results = results_of(folder)
    n_jobs = sum(len(contest.jobs) for contest in load_plan(folder.name).contests())
    if not results:
        return f"None of the {n_jobs} trainings of the plan `{folder.name}` is over yet."
    hours = sum(result.seconds for result in results) / 3600
    devices = "; ".join(sorted({result.device for result in results}))
    threads = " or ".join(sorted({str(result.threads) for result in results}))
    return (
        f"{table(results)}\n{len(results)} of {n_jobs} trainings of the plan `{folder.name}`, in "
        f"{hours:.1f} hours together, threads: {threads}, on {devices}."
    )


def others(folder: Path) -> str:
    """Strings of other lengths than those of training."""
    return beyond(results_of(folder)) or "Not measured yet."


def ablations(folder: Path) -> str:
    """The ablations of a plan, as a table with and one without the norm behind."""
    best = {case.model: result for case, result in best_of(results_of(folder)).items()}
    parts = []
    for bare in (False, True):
        behind = "no norm behind" if bare else "norm behind"
        rows = [[f"normalized, {behind}", *ACTIVATIONS]]
        for normalization in NORMALIZATIONS:
            names = [ablation_name(normalization, a, bare=bare) for a in ACTIVATIONS]
            rows.append([normalization, *(_cell(best.get(name)) for name in names)])
        parts.append(markdown(rows))
    return "\n".join(parts)


def _cell(result: Result | None) -> str:
    return "" if result is None else cell(result)


def drawings() -> Iterator[tuple[Path, str]]:
    """The figures of all plans of which there are results, as SVG."""
    for file in sorted(FOLDER.glob("*/results.jsonl")):
        results: Sequence[Result] = results_of(file.parent)
        for name, _, draw in figures(results):
            yield file.parent / f"{name}.svg", svg(draw)
