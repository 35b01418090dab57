"""`causalrn evaluate`, and its sisters. What needs torch is imported where it is used."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from causalrn.model.arguments import (
    CheckpointName,
    DeviceOption,
    PoolDtypeOption,
    Threads,
    complete_checkpoint,
    load,
    start_backend,
)
from causalrn.model.data.documents import Format
from causalrn.model.data.errors import DataError
from causalrn.model.data.options import Field, Separator
from causalrn.model.evaluation.errors import EvaluationError
from causalrn.model.evaluation.measuring import measure
from causalrn.model.evaluation.options import Output, Restart, Seed, numbers, plot_file
from causalrn.model.evaluation.session_commands import commands as for_sessions
from causalrn.model.terminal import fail

if TYPE_CHECKING:
    from causalrn.model.evaluation.bits import Cell

commands = typer.Typer()
_LENGTHS = "1,2,4,8,16,32,64"
_STRINGS, _BATCHES = 50, 20


def _complete_plan(incomplete: str) -> list[str]:
    from causalrn.model.evaluation.plan import plan_names

    return [name for name in plan_names() if name.startswith(incomplete)]


@commands.command("evaluate")
def evaluate(
    checkpoint: CheckpointName,
    lengths: Annotated[
        str | None,
        typer.Option(
            help="Lengths of the strings to copy, separated by commas.",
            metavar="N,N,…",
            show_default=_LENGTHS,
        ),
    ] = None,
    strings: Annotated[
        int | None,
        typer.Option(
            help="How many strings to copy of each kind and length.",
            min=1,
            metavar="N",
            show_default=str(_STRINGS),
        ),
    ] = None,
    plan: Annotated[
        str | None,
        typer.Option(
            help="Lengths, strings and kinds together: medium, long, or a TOML file of your own.",
            metavar="PLAN",
            autocompletion=_complete_plan,
        ),
    ] = None,
    batches: Annotated[
        int | None,
        typer.Option(
            help="How many held-out batches to score, for tasks other than copying.",
            min=1,
            metavar="N",
            show_default=str(_BATCHES),
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="Texts, as for `causalrn train`, to measure bits per byte of. May be repeated.",
            metavar="FILE_OR_FOLDER",
        ),
    ] = None,
    field: Field = "text",
    separator: Separator = None,
    context: Annotated[
        int,
        typer.Option(help="Tokens of each passage of the texts.", min=1, metavar="N"),
    ] = 1024,
    sequences: Annotated[
        int,
        typer.Option(help="Passages of the texts, at even distances.", min=1, metavar="N"),
    ] = 64,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            help="Another checkpoint to measure on the same texts. May be repeated.",
            metavar="CHECKPOINT",
            autocompletion=complete_checkpoint,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Draw bits per byte by what was read before, as .svg or .png.",
            metavar="FILE",
            callback=plot_file,
        ),
    ] = None,
    seed: Seed = 0,
    silence_block: Annotated[
        int | None,
        typer.Option(
            help="Silence this block, counted from 0, to see what the others do without it.",
            min=0,
            metavar="N",
        ),
    ] = None,
    output: Output = None,
    restart: Restart = False,
    threads: Threads = None,
    pool_dtype: PoolDtypeOption = "float32",
    device: DeviceOption = "auto",
) -> None:
    """Measure how well a checkpoint does what it was trained on.

    A checkpoint that copies is given strings of many kinds and lengths, and writes its copies token
    by token, as on a server. Two Markdown tables show in per cent how many strings were
    copied exactly, and how many characters were right. For any other task, one table shows the loss
    and the task's own scores over batches that no training has seen. With --data, any checkpoint is
    measured by the bits that it needs for each byte of texts, by how much of them it has read.

    Ctrl-C stops and prints the results so far. With --output, each result is kept as soon as it is
    there, and the same command goes on with what is missing.
    """
    from causalrn.model.evaluation.copying import silence_block as silence
    from causalrn.model.tasks.copying import Copying

    given = {"--lengths": lengths, "--strings": strings, "--plan": plan, "--batches": batches}
    of_texts: dict[str, object] = {"--compare": compare, "--plot": plot}
    others = given if data else of_texts
    for option in (option for option, value in others.items() if value is not None):
        fail(f"{option} is {'not ' if data else ''}for --data")
    if plan is not None and (lengths is not None or strings is not None):
        fail("--plan says how many strings of which lengths; leave out --lengths and --strings")
    start_backend(threads, device)
    loaded = load(checkpoint, pool_dtype, device)
    if silence_block is not None:
        try:
            silence(loaded, silence_block)
        except ValueError as error:
            fail(error)
    known = {"silenced_block": silence_block}
    if data:
        from causalrn.model.evaluation.bits import bits

        models = [loaded, *(load(name, pool_dtype, device) for name in compare or [])]
        try:
            texts = bits(models, data, Format(field, separator), context, sequences)
        except (DataError, EvaluationError) as error:
            fail(error)
        found = measure(loaded, texts.knowing(known), output, restart=restart)
        if plot is not None:
            _draw(found, plot)
        return
    copies = isinstance(loaded.task, Copying)
    for option, value in given.items():
        if value is not None and copies == (option == "--batches"):
            right = f"other tasks than {Copying.name!r}" if copies else f"the task {Copying.name!r}"
            fail(f"{option} is for {right}, this is a checkpoint of {loaded.task.name!r}")
    if not copies:
        from causalrn.model.evaluation.scores import scoring

        scored = scoring(loaded, batches or _BATCHES, seed)
        measure(loaded, scored.knowing(known), output, restart=restart)
        return
    from causalrn.model.evaluation.copying import copying
    from causalrn.model.evaluation.plan import Copies, Plan, read_plan

    try:
        if plan is not None:
            wanted = read_plan(plan)
        else:
            most = (loaded.config.max_seq_len - 3) // 2
            sizes = numbers("--lengths", _LENGTHS if lengths is None else lengths, most)
            copies_of = Copies(lengths=tuple(sizes), strings=strings or _STRINGS)
            wanted = Plan(copies=(copies_of,))
        copied = copying(loaded, wanted, seed)
    except EvaluationError as error:
        fail(error)
    measure(loaded, copied.knowing(known), output, restart=restart)


def _draw(cells: "Sequence[Cell]", plot: Path) -> None:
    from causalrn.model.drawing import png, svg
    from causalrn.model.evaluation.bits_figure import draw

    if plot.suffix == ".png":
        plot.write_bytes(png(lambda: draw(cells)))
    else:
        plot.write_text(svg(lambda: draw(cells)), encoding="utf-8")


commands.add_typer(for_sessions)
