"""The command `causalrn reproduce`."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from causalrn.model.arguments import DeviceOption
from causalrn.model.device import DeviceError, chosen_device
from causalrn.model.machine import usable_cores
from causalrn.model.terminal import fail, postponed_interrupts, say

commands = typer.Typer()
_SIGNALLED = 128  # plus the signal's number: the exit status of a command that it ended


@commands.command()
def reproduce(
    plan: Annotated[
        str | None,
        typer.Option(
            help="What to train: quick, full, another plan of the project, or a TOML file of your "
            "own.",
            metavar="PLAN",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="The same as --plan quick: some minutes on two cores.")
    ] = False,
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="The same as --plan full: the paper's protocol, days on a processor.",
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for results; by default, runs/reproduce/PLAN.", metavar="FOLDER"),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            help="Trainings side by side; by default, one for each core, or one on a GPU.",
            min=1,
            metavar="N",
        ),
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Train the paper's models and their peers to copy, and draw what came of it.

    The output folder gets the results (results.jsonl), figures and a report (report.md). Ctrl-C
    saves what is under way; the same command then goes on from there, with the same results as
    without a break. What is in results.jsonl is not trained again.

    Started by torchrun, each process takes its share of the trainings; give all of them the same
    output folder, or put their results.jsonl together and run the command once more.
    """
    if not find_spec("matplotlib"):
        fail("figures need Matplotlib: pip install 'causalrn[figures]'")
    from causalrn.model.progress import Watch
    from causalrn.model.reproduction.plan import PlanError, load_plan
    from causalrn.model.reproduction.report import write_report
    from causalrn.model.reproduction.results import Results, ResultsError
    from causalrn.model.reproduction.schedule import Now, Schedule, WorkerError

    named = [name for name, is_given in (("quick", quick), ("full", full)) if is_given]
    named += [plan] if plan is not None else []
    if len(named) != 1:
        fail("give one of --quick, --full and --plan")
    (name,) = named
    folder = output if output is not None else Path("runs/reproduce") / Path(name).stem
    try:
        loaded = load_plan(name)
        on = chosen_device(device)
        folder.mkdir(parents=True, exist_ok=True)
        results = Results(folder / "results.jsonl")
        results.read()
    except (PlanError, ResultsError) as error:
        fail(error)
    except DeviceError as error:
        fail(f"--device: {error}")
    except OSError as error:
        fail(f"{folder}: {error.strerror}; choose another --output")
    rank, n_ranks = (int(os.environ.get(key, first)) for key, first in _RANKS.items())
    n_local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    cores = max(1, usable_cores() // n_local)
    n_jobs = jobs or (1 if on == "cuda" else cores)
    schedule = Schedule(
        loaded.contests()[rank::n_ranks],
        results,
        folder / "states",
        evaluate_every=loaded.evaluate_every,
        n_jobs=n_jobs,
        threads=max(1, cores // n_jobs),
        device=on,
    )
    left = schedule.work_left()
    finished = True
    if left:
        with postponed_interrupts() as interrupted, Watch(name, left, 0) as watch:

            def tell(now: Now) -> None:
                accuracy = "" if now.accuracy is None else f", {now.accuracy:.0%} right"
                watch.begin(f"{now.job.name}: step {now.step:,} of {now.job.steps:,}{accuracy}")
                watch.advance(now.new * now.job.cost)

            try:
                finished = schedule.run(tell, lambda: interrupted() is not None)
            except WorkerError as error:
                failed: WorkerError | None = error
            else:
                failed = None
            number = interrupted()
        if failed is not None:
            fail(failed)
        if not finished and number is not None:
            say(f"Saved in {folder}. The same command goes on from there.")
            raise typer.Exit(_SIGNALLED + number)
    names = [job.name for contest in loaded.contests() for job in contest.jobs]
    found = results.read()
    report = write_report(folder, name, loaded, [found[n] for n in names if n in found])
    say(f"The results are in {results.file}, what they say is in {report}.")


_RANKS = {"RANK": "0", "WORLD_SIZE": "1"}  # as torchrun sets them
