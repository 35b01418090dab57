"""The `causalrn` command: train, evaluate, generate.

What needs torch is imported where it is used, so that `--help` and the Tab key answer at once.
"""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model.sampling import SamplingParams
from model.terminal import fail, postponed_interrupts, progress_bar, say
from model.tokenizer import LetterTokenizer
from model.training.preset import PresetError, load_preset, preset_names

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint

app = typer.Typer(
    name="causalrn",
    help="Train, evaluate and run CausalRN decoders.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_CHECKPOINTS = Path(__file__).resolve().parent.parent / "checkpoints"
_SIGNALLED = 128  # plus the signal's number: the exit status of a command that it ended


def _complete_preset(incomplete: str) -> list[str]:
    return [name for name in preset_names() if name.startswith(incomplete)]


def _complete_checkpoint(incomplete: str) -> list[str]:
    return [name for name in _checkpoint_names() if name.startswith(incomplete)]


def _checkpoint_names() -> list[str]:
    return sorted(file.parent.name for file in _CHECKPOINTS.glob("*/config.json"))


_Threads = Annotated[
    int | None, typer.Option(help="Threads to use; all cores if left out.", min=1, metavar="N")
]
_CHECKPOINT_HELP = "A checkpoint folder, or the name of one that comes with the project."


@app.command()
def train(
    preset: Annotated[
        str,
        typer.Argument(
            metavar="PRESET",
            help=f"One of {', '.join(preset_names())}, or a TOML file of your own.",
            autocompletion=_complete_preset,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of the run; runs/PRESET if left out.", metavar="FOLDER"),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Checkpoint to begin with, in place of random weights.",
            metavar="CHECKPOINT",
            autocompletion=_complete_checkpoint,
        ),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin again, forgetting a run in that folder.")
    ] = False,
    threads: _Threads = None,
) -> None:
    """Train a preset; an interrupted run goes on where it stopped.

    Ctrl-C saves and stops. The checkpoint, the log (log.jsonl) and the state that a run resumes
    from lie in the output folder. With the same number of threads, a resumed run gives the same
    weights as an uninterrupted one.
    """
    try:
        recipe = load_preset(preset)
    except PresetError as error:
        fail(error)
    from model.training.run import Run, RunError
    from model.training.trainer import DivergedError, Progress, Trainer

    _use_threads(threads)
    try:
        run = Run(output if output is not None else Path("runs") / recipe.name)
        if restart:
            run.clear()
        job = Trainer(recipe, run, None if start is None else _load(start))
    except RunError as error:
        fail(error)
    steps = recipe.schedule.steps
    if job.step:
        say(f"Going on from step {job.step:,} of {steps:,}.")
    with (
        postponed_interrupts() as interrupted,
        progress_bar("{task.fields[numbers]}") as progress,
    ):
        task = progress.add_task(recipe.name, total=steps, completed=job.step, numbers="")

        def report(now: Progress) -> None:
            numbers = (
                f"loss {now.loss:.4f} · {100 * now.accuracy:.2f} % right · "
                f"{now.tokens_per_second:,.0f} tokens/s · strings up to {now.length_limit}"
            )
            progress.update(task, completed=now.step, numbers=numbers)

        diverged = None
        try:
            finished = job.train(report, lambda: interrupted() is not None)
        except DivergedError as error:
            diverged = error  # told below the display, once that is closed
        number = interrupted()
    if diverged is not None:
        fail(diverged)
    if not finished and number is not None:
        say(f"Saved at step {job.step:,} of {steps:,}. The same command goes on from there.")
        raise typer.Exit(_SIGNALLED + number)
    say(f"Trained {steps:,} steps in {job.seconds:,.0f} s. The checkpoint is in {run.folder}.")


@app.command()
def evaluate(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT", help=_CHECKPOINT_HELP, autocompletion=_complete_checkpoint
        ),
    ],
    lengths: Annotated[
        str, typer.Option(help="Lengths of the strings, with commas between.", metavar="N,N,…")
    ] = "1,2,4,8,16,32,64",
    strings: Annotated[
        int, typer.Option(help="Strings of each kind and length.", min=1, metavar="N")
    ] = 50,
    seed: Annotated[int, typer.Option(help="Of the strings.", min=0, metavar="N")] = 0,
    silence_layer: Annotated[
        int | None,
        typer.Option(
            help="Silence this layer (0 is the first) to see what it does.", min=0, metavar="N"
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Write the results to this JSON file too.", dir_okay=False),
    ] = None,
    threads: _Threads = None,
) -> None:
    """Measure how exactly a checkpoint copies, by length and kind of string.

    Strings are decoded freely, token by token, through the path that serves. Prints two Markdown
    tables in per cent: strings copied exactly, and characters right. Ctrl-C prints what there is.
    """
    from model.evaluation.copying import Cell, evaluate_copying, markdown_tables
    from model.evaluation.copying import silence_layer as silence
    from model.evaluation.strings import KINDS

    _use_threads(threads)
    loaded = _load(checkpoint)
    sizes = _parse_lengths(lengths, longest=(loaded.config.max_seq_len - 3) // 2)
    if silence_layer is not None:
        try:
            silence(loaded, silence_layer)
        except ValueError as error:
            fail(error)
    cells: list[Cell] = []
    interrupted = False
    began = time.monotonic()
    with progress_bar("characters") as progress:
        total = sum(sizes) * strings * len(KINDS[loaded.tokenizer.name])
        task = progress.add_task(loaded.name, total=total)
        measured = evaluate_copying(
            loaded,
            lengths=sizes,
            n_strings=strings,
            seed=seed,
            advance=lambda n: progress.advance(task, n),
        )
        try:
            for cell in measured:
                cells.append(cell)  # noqa: PERF402 — one by one, so that an interrupt keeps them
        except KeyboardInterrupt:
            interrupted = True
    if cells:
        typer.echo(markdown_tables(cells), nl=False)
    if interrupted:
        raise KeyboardInterrupt
    if output is not None:
        results = {
            "checkpoint": loaded.name,
            "fingerprint": loaded.fingerprint,
            "seed": seed,
            "silenced_layer": silence_layer,
            "seconds": round(time.monotonic() - began, 1),
            "cells": [asdict(cell) for cell in cells],
        }
        try:
            output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            fail(error)


@app.command()
def generate(
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="Standard input if left out.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="Copy this file instead.", exists=True, dir_okay=False, readable=True),
    ] = None,
    checkpoint: Annotated[
        str, typer.Option(help=_CHECKPOINT_HELP, autocompletion=_complete_checkpoint)
    ] = "copy-bytes",
    max_tokens: Annotated[
        int | None,
        typer.Option(help="Tokens at most; what a copy needs if left out.", min=1, metavar="N"),
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="0 takes the likeliest token.", min=0, metavar="T")
    ] = 0.0,
    top_k: Annotated[
        int, typer.Option(help="Draw from the k likeliest; 0 for all.", min=0, metavar="K")
    ] = 0,
    top_p: Annotated[
        float,
        typer.Option(help="Draw from the likeliest of this total.", min=0, max=1, metavar="P"),
    ] = 1.0,
    seed: Annotated[
        int | None, typer.Option(help="Makes a draw repeatable.", min=0, metavar="N")
    ] = None,
    threads: _Threads = None,
) -> None:
    """Copy TEXT, a file or standard input through a checkpoint, token by token.

    A model of bytes takes any bytes and writes its tokens as they are; nothing is added.
    """
    if text is not None and file is not None:
        fail("give a text or --file, not both")
    try:
        sampling = SamplingParams(temperature, top_k, top_p, seed)
        source = _read(text, file)
    except (ValueError, OSError) as error:
        fail(error)
    from model.generation import generate as generate_tokens

    _use_threads(threads)
    loaded = _load(checkpoint)
    try:
        ids = _encode(loaded, source)
        if not ids:
            fail("there is nothing to copy: the text is empty")
        if max_tokens is None:
            room = loaded.config.max_seq_len - len(loaded.wrap(ids))
            max_tokens = max(1, min(len(ids) + 1, room))
        steps = generate_tokens(loaded, [ids], max_tokens=[max_tokens], sampling=sampling)
    except ValueError as error:
        fail(error)
    for tokens in steps:
        for token in tokens.values():
            sys.stdout.buffer.write(_decode(loaded, token))
            sys.stdout.buffer.flush()


def _read(text: str | None, file: Path | None) -> bytes:
    if text is not None:
        return text.encode(errors="surrogateescape")  # an argument may hold any bytes
    if file is not None:
        return file.read_bytes()
    if sys.stdin.isatty():
        say("Type the text to copy, then Ctrl-D on a line of its own.")
    return sys.stdin.buffer.read()


def _encode(checkpoint: "Checkpoint", source: bytes) -> list[int]:
    if isinstance(checkpoint.tokenizer, LetterTokenizer):
        return checkpoint.tokenizer.encode(source.decode())
    return list(source)  # bytes are the ids, also where they are not UTF-8


def _decode(checkpoint: "Checkpoint", token: int) -> bytes:
    if isinstance(checkpoint.tokenizer, LetterTokenizer):
        return checkpoint.tokenizer.decode([token]).encode()
    return bytes([token]) if token < 256 else b""  # a special id in a draw has no byte


def _parse_lengths(text: str, longest: int) -> list[int]:
    try:
        lengths = sorted({int(part) for part in text.split(",")})
    except ValueError:
        fail(f"--lengths takes whole numbers with commas between, got {text!r}")
    if lengths[0] < 1 or lengths[-1] > longest:
        fail(f"--lengths must lie between 1 and {longest} for this checkpoint")
    return lengths


def _load(name: str) -> "Checkpoint":
    from model.checkpoint import CheckpointError, load_checkpoint

    supplied = name in _checkpoint_names() and not Path(name).exists()
    try:
        return load_checkpoint(_CHECKPOINTS / name if supplied else name)
    except CheckpointError as error:
        fail(error)


def _use_threads(threads: int | None) -> None:
    if threads is None:
        return
    import torch

    from model.ops import jit

    try:
        jit.set_num_threads(threads)
    except ValueError as error:
        fail(f"--threads: {error}")
    torch.set_num_threads(threads)
