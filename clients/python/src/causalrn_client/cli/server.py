"""The server that a command talks to, and the options that name it and what it has."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from causalrn_client.cli.terminal import fail

if TYPE_CHECKING:
    from causalrn_client import Client

_VARIABLE = "CAUSALRN_URL"
DEFAULT_URL = "http://127.0.0.1:8000"

# The Tab key waits no longer than this, and lists no more.
_COMPLETION_SECONDS = 0.5
_MOST_COMPLETIONS = 1000


@contextmanager
def connected(url: str) -> Iterator["Client"]:
    """Lend a client of the server; what goes wrong with it, or with a file, ends the command.

    It does not try again: whoever sits at a terminal wants to know at once.
    """
    from causalrn_client import CausalRNError, Client

    try:
        client = Client(url, max_retries=0)
    except ValueError as error:
        fail(f"--url: {error}")
    try:
        with client:
            yield client
    except BrokenPipeError:
        raise  # whoever read the output has gone; there is nobody to tell
    except (CausalRNError, OSError) as error:
        fail(error)


def complete_session(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The ids of the server's sessions, with a word about each; none if it does not say at once."""
    from causalrn_client import Client

    url = ctx.params.get("url") or os.environ.get(_VARIABLE) or DEFAULT_URL
    try:
        with Client(url, timeout=_COMPLETION_SECONDS, max_retries=0) as client:
            sessions = client.sessions(limit=_MOST_COMPLETIONS)
            return [
                (session.id, f"{session.n_tokens} tokens")
                for session in itertools.islice(sessions, _MOST_COMPLETIONS)
                if session.id.startswith(incomplete)
            ]
    except Exception:
        return []  # in the middle of a line there is no place for an error


Url = Annotated[str, typer.Option(help="Address of the server.", envvar=_VARIABLE, metavar="URL")]
SessionId = Annotated[
    str,
    typer.Argument(metavar="ID", help="Id of the session.", autocompletion=complete_session),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Ttl = Annotated[
    float | None,
    typer.Option(
        help="Seconds without use after which it is gone; the server's choice if left out.",
        min=0,
        metavar="SECONDS",
    ),
]
