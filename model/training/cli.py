"""`causalrn train`. What needs torch is imported where it is used; see `model/cli.py`."""

from pathlib import Path
from typing import Annotated

import typer

from causalrn.model.arguments import DeviceOption, Threads, complete_checkpoint, load, start_backend
from causalrn.model.data.documents import Format
from causalrn.model.data.errors import DataError
from causalrn.model.data.options import HELD_OUT, Field, Separator
from causalrn.model.device import DeviceError, chosen_device
from causalrn.model.terminal import fail, postponed_interrupts, say
from causalrn.model.training.preset_files import PresetError, preset_names

commands = typer.Typer()
_SIGNALLED = 128  # plus the signal's number: the exit status of a command that it ended


def _complete_preset(incomplete: str) -> list[str]:
    return [name for name in preset_names() if name.startswith(incomplete)]


@commands.command()
def train(
    preset: Annotated[
        str,
        typer.Argument(
            metavar="PRESET",
            help=f"One of {', '.join(preset_names())}, or a TOML file of your own.",
            autocompletion=_complete_preset,
        ),
    ],
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="A text to train on, JSON lines, either of them compressed by gzip, or a folder "
            "of them. May be repeated.",
            metavar="FILE_OR_FOLDER",
        ),
    ] = None,
    field: Field = "text",
    separator: Separator = None,
    held_out: Annotated[
        float,
        typer.Option(
            "--held-out",
            help="Share of the documents that are not trained on, but measured by.",
            min=0.0,
            max=0.5,
            metavar="SHARE",
        ),
    ] = HELD_OUT,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help="bytes, letters, alphabet for the characters of the data, or a tokenizer.json of "
            "Hugging Face's library; by default, the preset's.",
            metavar="NAME_OR_FILE",
        ),
    ] = None,
    alphabet: Annotated[
        str | None,
        typer.Option(
            help="The characters that the model knows, in place of those of the data.",
            metavar="CHARACTERS",
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Train for so long, whatever the preset says; schedules follow the time.",
            min=0.01,
            metavar="N",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for the run; by default, runs/PRESET.", metavar="FOLDER"),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Checkpoint to begin with, instead of random weights.",
            metavar="CHECKPOINT",
            autocompletion=complete_checkpoint,
        ),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin again, and delete the run in that folder.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Replace a value of the preset, such as optimizer.steps=100. May be repeated.",
            metavar="KEY=VALUE",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of weights and data, instead of the preset's.", min=0, metavar="N"),
    ] = None,
    save_every: Annotated[
        int | None,
        typer.Option(
            help="Save a checkpoint every N steps, in addition to about once a minute.",
            min=1,
            metavar="N",
        ),
    ] = None,
    threads: Threads = None,
    device: DeviceOption = "auto",
) -> None:
    """Train a preset, on texts of your own if it reads any, or resume its interrupted run.

    The output folder holds the checkpoint, the log (log.jsonl) and the state that a run is resumed
    from. Ctrl-C saves all three and stops; the same command then goes on from there. The checkpoint
    of an unfinished run can be evaluated, served and asked like any other. With the same number of
    threads on the same device, a resumed run gives the same weights as an uninterrupted one, unless
    it goes by time.
    """
    from causalrn.model.training.huge_pages import use_huge_pages

    use_huge_pages()
    from causalrn.model.training.request import Request
    from causalrn.model.training.run import RunError
    from causalrn.model.training.trainer import DivergedError
    from causalrn.model.training.watching import Watched

    changes = [
        *(settings or []),
        *([] if seed is None else [f"seed={seed}"]),
        *([] if minutes is None else [f"optimizer.minutes={float(minutes)}"]),
    ]
    try:
        device = chosen_device(device)
    except DeviceError as error:
        fail(f"--device: {error}")
    start_backend(threads, device)
    request = Request(
        preset, changes, data or (), Format(field, separator), held_out, tokenizer, alphabet,
        output, restart, None if start is None else load(start), save_every, device,
    )  # fmt: skip
    try:
        job = request.trainer()
    except (DataError, PresetError, RunError) as error:
        fail(error)
    run = job.run
    optimizer = job.preset.optimizer
    of_steps = "" if optimizer.minutes else f" of {optimizer.last_step:,}"
    if job.step:
        say(f"Going on from step {job.step:,}{of_steps}.")
    diverged = None
    with postponed_interrupts() as interrupted, Watched(job) as watched:
        try:
            finished = job.train(watched.report, lambda: interrupted() is not None)
        except DivergedError as error:
            diverged = error  # told below the display, once that is closed
        number = interrupted()
    if diverged is not None:
        if job.saved_step is not None:
            say(f"The checkpoint of step {job.saved_step:,} is in {run.folder}.")
        fail(diverged)
    if not finished and number is not None:
        say(
            f"Saved at step {job.step:,}{of_steps}; the checkpoint is in {run.folder}. "
            "The same command goes on from there."
        )
        raise typer.Exit(_SIGNALLED + number)
    say(f"Trained {job.step:,} steps in {job.seconds:,.0f} s. The checkpoint is in {run.folder}.")
