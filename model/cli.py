"""The `causalrn` command: train, evaluate, generate.

What needs torch is imported where it is used, so that `--help` and the Tab key answer at once.
"""

import sys
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from causalrn.model.answer_writer import AnswerWriter
from causalrn.model.arguments import (
    CHECKPOINT_HELP,
    DeviceOption,
    PoolDtypeOption,
    Threads,
    complete_checkpoint,
    load,
    start_backend,
)
from causalrn.model.evaluation.cli import commands as evaluating
from causalrn.model.export.cli import commands as exporting
from causalrn.model.models_command import commands as listing
from causalrn.model.reproduction.cli import commands as reproducing
from causalrn.model.sampling import SamplingParams
from causalrn.model.sampling_options import takes_sampling
from causalrn.model.terminal import fail, say
from causalrn.model.tokenizers.byte import ByteTokenizer
from causalrn.model.training.cli import commands as training

if TYPE_CHECKING:
    from causalrn.model.checkpoint import Checkpoint
    from causalrn.model.tokenizers.base import Tokenizer

_ADDED = "causalrn.commands"


class _Commands(TyperGroup):
    """The commands of this file, and those that other packages add.

    A package adds a `typer.Typer` by an entry point of the group `causalrn.commands`. It is loaded
    when a command line names it or when help lists it; if that fails, there is a warning instead.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        own = super().list_commands(ctx)
        return own + sorted(entry_points(group=_ADDED).names - set(own))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in self.commands:
            return self.commands[cmd_name]
        for added in entry_points(group=_ADDED, name=cmd_name):
            try:
                command = get_command(added.load())
            except Exception as error:
                if not ctx.resilient_parsing:  # the Tab key's line has no place for it
                    reason = " ".join(f"{type(error).__name__}: {error}".split())
                    say(f"warning: cannot load {cmd_name!r} from {added.value}: {reason}", "yellow")
                continue
            command.name = cmd_name
            self.commands[cmd_name] = command
            return command
        return None


app = typer.Typer(
    name="causalrn",
    cls=_Commands,
    help="Train, evaluate and run CausalRN decoders.",
    rich_markup_mode="markdown",  # so that paragraphs are wrapped to the terminal
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(training)
app.add_typer(evaluating)
app.add_typer(listing)
app.add_typer(exporting)
app.add_typer(reproducing)
_CUT_OFF = 3  # the exit status of an answer that had no room
_WRONG = (
    5  # the exit status of an answer that is not what it should be, as in the client's commands
)
_SIGNALLED = 128  # plus the signal's number: the exit status of a command that it ended


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"causalrn {version('causalrn')}")
        raise typer.Exit


@app.callback()
def main(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Take the options that are none of a command."""


@app.command()
@takes_sampling
def generate(
    text: Annotated[
        str | None,
        typer.Argument(metavar="TEXT", help="The text; read from standard input if left out."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="Read the text from this file.", exists=True, dir_okay=False, readable=True
        ),
    ] = None,
    checkpoint: Annotated[
        str, typer.Option(help=CHECKPOINT_HELP, autocompletion=complete_checkpoint)
    ] = "exact-bytes",
    max_tokens: Annotated[
        int | None,
        typer.Option(
            help="Write at most this many tokens; by default, as many as the task may need.",
            min=1,
            metavar="N",
        ),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="On a terminal, too, write the answer as it is.")
    ] = False,
    threads: Threads = None,
    pool_dtype: PoolDtypeOption = "float32",
    device: DeviceOption = "auto",
    *,
    sampling: SamplingParams,
) -> None:
    """Give a text to a checkpoint, and write its answer token by token.

    A checkpoint that copies answers with the same text. A model of bytes takes any bytes, and its
    answer is written as it is, without a newline at the end. On a terminal, escapes stand in for
    control characters, and a newline ends the answer. The exit status is 3 if the model had no room
    for all of it, and 5 if it made a mistake in a copy.
    """
    if text is not None and file is not None:
        fail("give a text or --file, not both")
    try:
        source = _read(text, file)
    except (ValueError, OSError) as error:
        fail(error)
    from causalrn.model.generation import generate as generate_tokens

    start_backend(threads, device)
    loaded = load(checkpoint, pool_dtype, device)
    try:
        ids = _encode(loaded, source)
        if not ids:
            fail("there is nothing to copy: the text is empty")
        task, mode = loaded.task, loaded.task.modes[0]
        wanted = 0
        if max_tokens is None:
            wanted = task.answer_length(mode, len(ids), 0)
            room = loaded.config.max_seq_len - len(task.frame(ids, mode))
            max_tokens = max(1, min(wanted, room))
        steps = generate_tokens(loaded, [ids], max_tokens=[max_tokens], sampling=sampling)
    except ValueError as error:
        fail(error)
    decoder = _Bytes(loaded.tokenizer)
    answer = AnswerWriter(sys.stdout.buffer, for_people=sys.stdout.isatty() and not raw)
    written: list[int] = []
    for tokens in steps:
        for token in tokens.values():
            answer.write(decoder.push(token))
            written.append(token)
    answer.write(decoder.flush())
    answer.end()
    if len(written) == max_tokens < wanted:
        say(
            f"warning: the answer is cut off after {max_tokens:,} tokens, as {loaded.name} holds "
            f"{loaded.config.max_seq_len:,}, prompt and answer together",
            "yellow",
        )
        raise typer.Exit(_CUT_OFF)
    if len(written) < max_tokens:
        written.append(loaded.config.eos_id)
    # What is drawn at random may be anything.
    if not sampling.temperature and task.verify(ids, written, mode, ()) is False:
        say("warning: the answer is wrong: it is not the text", "yellow")
        raise typer.Exit(_WRONG)


def _read(text: str | None, file: Path | None) -> bytes:
    if text is not None:
        return text.encode(errors="surrogateescape")  # an argument may hold any bytes
    if file is not None:
        return file.read_bytes()
    if sys.stdin.isatty():
        say("Type the text to copy, then Ctrl-D on a line of its own.")
    return sys.stdin.buffer.read()


def _encode(checkpoint: "Checkpoint", source: bytes) -> list[int]:
    if isinstance(checkpoint.tokenizer, ByteTokenizer):
        return list(source)  # bytes are the ids, also where they are not UTF-8
    return checkpoint.tokenizer.encode(source.decode())


class _Bytes:
    """The bytes of a model's tokens: of a text only whole characters, else as they are."""

    def __init__(self, tokenizer: "Tokenizer") -> None:
        is_text = not isinstance(tokenizer, ByteTokenizer)
        self._stream = tokenizer.stream_decoder() if is_text else None

    def push(self, token: int) -> bytes:
        if self._stream is not None:
            return self._stream.push([token]).encode()
        return bytes([token]) if token < 256 else b""  # a special id in a draw has no byte

    def flush(self) -> bytes:
        return b"" if self._stream is None else self._stream.flush().encode()
