"""Commands that take a turn in a session: generate, read, recall."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from causalrn_client.cli.server import DEFAULT_URL, Json, SessionId, Url, connected
from causalrn_client.cli.terminal import fail, say, write
from causalrn_client.turn_options import Mode, TurnOptions

Text = Annotated[
    str | None,
    typer.Argument(metavar="TEXT", help="Standard input if left out.", show_default=False),
]
File = Annotated[
    Path | None,
    typer.Option(help="Take the text from this file."),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait while another request has the session.")]
MaxTokens = Annotated[
    int | None,
    typer.Option(help="Tokens at most.", min=0, metavar="N"),
]


def generate(
    id: SessionId,
    text: Text = None,
    file: File = None,
    mode: Annotated[
        Mode,
        typer.Option(
            help="What the text is: one to copy, the first words of one to recall, or tokens to go "
            "on from as they are (none, for where the session stands)."
        ),
    ] = "copy",
    max_tokens: MaxTokens = None,
    temperature: Annotated[
        float | None, typer.Option(help="0 takes the likeliest token.", min=0, metavar="T")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(help="Draw from the k likeliest; 0 for all.", min=0, metavar="K")
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(help="Draw from the likeliest of this total.", min=0, max=1, metavar="P"),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Makes a draw repeatable.", min=0, metavar="N")
    ] = None,
    wait: Wait = False,
    json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Generate from TEXT in a session, and print it as it is written.

    TEXT and what is written are in the session then. For what is left out the server's defaults
    count.
    """
    options = TurnOptions(
        max_tokens=max_tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed
    )
    _take_turn(url, id, _read(text, file), mode, wait, json, options)


def recall(
    id: SessionId,
    text: Text = None,
    file: File = None,
    max_tokens: MaxTokens = None,
    wait: Wait = False,
    json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Print how a passage that the session has read goes on after its first words, TEXT."""
    options = TurnOptions(max_tokens=max_tokens)
    _take_turn(url, id, _read(text, file), "recall", wait, json, options)


def read(
    id: SessionId,
    text: Text = None,
    file: File = None,
    wait: Wait = False,
    json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Read TEXT, a file or standard input into a session, and write nothing."""
    passage = _read(text, file)
    with connected(url) as client:
        generation = client.session(id).read(passage, wait=wait or None)
        if json:
            typer.echo(generation.model_dump_json())
        elif generation.session is not None:
            say(f"The session holds {generation.session.n_tokens:,} tokens now.")


def _take_turn(
    url: str, id: str, prompt: str, mode: Mode, wait: bool, json: bool, options: TurnOptions
) -> None:
    with connected(url) as client:
        session = client.session(id)
        if json:
            generation = session.generate(prompt, mode=mode, wait=wait or None, **options)
            typer.echo(generation.model_dump_json())
            return
        last = ""
        with session.stream(prompt, mode=mode, wait=wait or None, **options) as stream:
            for chunk in stream:
                write(chunk.text)
                last = chunk.text or last
        if _on_terminal() and not last.endswith("\n"):
            write("\n")  # so that the prompt of the shell begins a line
        reason = stream.result().finish_reason
        if reason not in {"stop", "length"}:
            fail(f"the server ended the generation ({reason})")


def _on_terminal() -> bool:
    return sys.stdout.isatty()


def _read(text: str | None, file: Path | None) -> str:
    """The text as it is given, to the last byte; ends the command where it is not UTF-8."""
    if text is not None and file is not None:
        fail("give a text or --file, not both")
    try:
        if text is not None:
            # An argument may hold any bytes.
            return text.encode(errors="surrogateescape").decode()
        if file is not None:
            return file.read_bytes().decode()
        if sys.stdin.isatty():
            say("Type the text, then Ctrl-D on a line of its own.")
        return sys.stdin.buffer.read().decode()
    except OSError as error:
        fail(error)
    except UnicodeError as error:
        fail(f"the text is not UTF-8: {error}")
