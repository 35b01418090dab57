"""The evaluating commands of `causalrn`. What needs torch is imported where it is used."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from model.arguments import CheckpointName, Threads, load, start_backend
from model.evaluation.measuring import measure
from model.output_file import check_writable
from model.terminal import fail

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint

commands = typer.Typer()
_LENGTHS = "1,2,4,8,16,32,64"
_STRINGS, _BATCHES = 50, 20


def _writable(ctx: typer.Context, file: Path | None) -> Path | None:
    if file is not None and not ctx.resilient_parsing:
        try:
            check_writable(file)
        except OSError as error:
            raise typer.BadParameter(f"{file}: {error.strerror}") from None
    return file


_Output = Annotated[
    Path | None,
    typer.Option(
        help="Write the results to this JSON file too.", metavar="FILE", callback=_writable
    ),
]


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
    batches: Annotated[
        int | None,
        typer.Option(
            help="How many held-out batches to score, for tasks other than copying.",
            min=1,
            metavar="N",
            show_default=str(_BATCHES),
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of the strings or batches.", min=0, metavar="N")
    ] = 0,
    silence_block: Annotated[
        int | None,
        typer.Option(
            help="Silence this block, counted from 0, to see what the others do without it.",
            min=0,
            metavar="N",
        ),
    ] = None,
    output: _Output = None,
    threads: Threads = None,
) -> None:
    """Measure how well a checkpoint does what it was trained on.

    A checkpoint that copies is given strings of many kinds and lengths, and writes its copies token
    by token, as on a server. Two Markdown tables show in per cent how many strings were
    copied exactly, and how many characters were right. For any other task, one table shows the loss
    and the task's own scores over batches that no training has seen. Ctrl-C stops and prints the
    results so far.
    """
    from model.evaluation.copying import silence_block as silence
    from model.tasks.copying import Copying

    start_backend(threads)
    loaded = load(checkpoint)
    if silence_block is not None:
        try:
            silence(loaded, silence_block)
        except ValueError as error:
            fail(error)
    known = {"silenced_block": silence_block}
    if isinstance(loaded.task, Copying):
        if batches is not None:
            fail(f"--batches is for other tasks than {loaded.task.name!r}")
        sizes = _LENGTHS if lengths is None else lengths
        _evaluate_copying(loaded, sizes, strings or _STRINGS, seed, known, output)
        return
    if lengths is not None or strings is not None:
        option = "--strings" if lengths is None else "--lengths"
        fail(
            f"{option} is for the task {Copying.name!r}, this is a checkpoint of "
            f"{loaded.task.name!r}"
        )
    _evaluate_scores(loaded, batches or _BATCHES, seed, known, output)


def _evaluate_scores(
    loaded: "Checkpoint", batches: int, seed: int, known: dict[str, Any], output: Path | None
) -> None:
    from model.evaluation import scores as measurement

    measure(
        loaded,
        ("batches", batches),
        lambda advance: measurement.evaluate_scores(
            loaded, n_batches=batches, seed=seed, advance=advance
        ),
        measurement.markdown_table,
        lambda scores: {
            "seed": seed,
            **known,
            "batches": len(scores),
            "scores": measurement.mean_scores(scores),
        },
        output,
    )


def _evaluate_copying(
    loaded: "Checkpoint",
    lengths: str,
    strings: int,
    seed: int,
    known: dict[str, Any],
    output: Path | None,
) -> None:
    from model.evaluation import copying as measurement
    from model.evaluation.strings import KINDS

    sizes = _numbers("--lengths", lengths, most=(loaded.config.max_seq_len - 3) // 2)
    measure(
        loaded,
        ("characters", sum(sizes) * strings * len(KINDS[loaded.tokenizer.name])),
        lambda advance: measurement.evaluate_copying(
            loaded, lengths=sizes, n_strings=strings, seed=seed, advance=advance
        ),
        measurement.markdown_tables,
        lambda cells: {
            "seed": seed,
            **known,
            "cells": [asdict(cell) for cell in cells],
        },
        output,
    )


@commands.command("evaluate-turns")
def turns(
    checkpoint: CheckpointName,
    turns: Annotated[
        int, typer.Option(help="How many strings each session copies.", min=1, metavar="N")
    ] = 20,
    lengths: Annotated[
        str, typer.Option(help="Lengths of the shortest and the longest string.", metavar="N,N")
    ] = "8,64",
    sessions: Annotated[
        int, typer.Option(help="How many sessions to measure.", min=1, metavar="N")
    ] = 50,
    seed: Annotated[int, typer.Option(help="Seed of the strings.", min=0, metavar="N")] = 0,
    output: _Output = None,
    threads: Threads = None,
) -> None:
    """Measure how exactly a checkpoint copies one string after another in one session.

    What the model writes stays in the session, mistakes included, as on a server. Two
    Markdown tables show how many copies were exact, by turn and by kind of string. Ctrl-C stops and
    prints the results so far.
    """
    from model.evaluation import turns as measurement

    start_backend(threads)
    loaded = load(checkpoint)
    bounds = _numbers("--lengths", lengths, most=loaded.config.max_seq_len)
    if len(bounds) > 2:
        fail(f"--lengths takes the shortest and the longest, got {lengths!r}")
    measure(
        loaded,
        ("turns", turns * sessions),
        lambda advance: measurement.evaluate_turns(
            loaded,
            n_turns=turns,
            lengths=(bounds[0], bounds[-1]),
            n_sessions=sessions,
            seed=seed,
            advance=advance,
        ),
        lambda answers: measurement.markdown_tables(
            measurement.score_turns(answers), measurement.score_kinds(answers)
        ),
        lambda answers: {
            "seed": seed,
            "lengths": [bounds[0], bounds[-1]],
            "turns": [asdict(score) for score in measurement.score_turns(answers)],
            "kinds": [asdict(score) for score in measurement.score_kinds(answers)],
        },
        output,
    )


@commands.command("evaluate-recall")
def recall(
    checkpoint: CheckpointName,
    pools: Annotated[
        str,
        typer.Option(
            help="How many tokens a session reads before it is asked, separated by commas.",
            metavar="N,N,…",
        ),
    ] = "256,1024,4096",
    prefixes: Annotated[
        str,
        typer.Option(
            help="How many of a passage's first tokens are given, separated by commas.",
            metavar="N,N,…",
        ),
    ] = "4,8,16,32,64",
    queries: Annotated[
        int,
        typer.Option(
            help="How many passages to ask for, of each kind, pool and prefix.",
            min=1,
            metavar="N",
        ),
    ] = 20,
    seed: Annotated[int, typer.Option(help="Seed of the passages.", min=0, metavar="N")] = 0,
    output: _Output = None,
    threads: Threads = None,
) -> None:
    """Measure how exactly a checkpoint recalls passages from their first words.

    A session reads passages until it holds the wanted number of tokens. Then it is given the first
    tokens of one of them, and the model goes on token by token, as on a server. Markdown
    tables show the results by kind of text and by the lengths of pool and prefix. Ctrl-C stops and
    prints the results so far.
    """
    from model.evaluation import recall as measurement
    from model.evaluation.passages import KINDS

    start_backend(threads)
    loaded = load(checkpoint)
    longest = loaded.config.max_seq_len
    pool_sizes = _numbers("--pools", pools, most=longest)
    prefix_sizes = _numbers("--prefixes", prefixes, most=longest)
    n_cells = len(KINDS[loaded.tokenizer.name]) * len(pool_sizes) * len(prefix_sizes)
    measure(
        loaded,
        ("queries", n_cells * queries),
        lambda advance: measurement.evaluate_recall(
            loaded,
            pools=pool_sizes,
            prefixes=prefix_sizes,
            n_queries=queries,
            seed=seed,
            advance=advance,
        ),
        measurement.markdown_tables,
        lambda cells: {"seed": seed, "cells": [asdict(cell) for cell in cells]},
        output,
    )


def _numbers(option: str, text: str, most: int) -> list[int]:
    """The numbers that an option lists, in order; ends the command if they are not in bounds."""
    try:
        numbers = sorted({int(part) for part in text.split(",")})
    except ValueError:
        fail(f"{option} takes whole numbers with commas between, got {text!r}")
    if numbers[0] < 1 or numbers[-1] > most:
        fail(f"{option} must lie between 1 and {most} for this checkpoint")
    return numbers
