"""The server that a command talks to, and the options that name it and what it has."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from causalrn_client.cli.terminal import fail

if TYPE_CHECKING:
    from causalrn_client import CausalRNError, Client

DEFAULT_URL = "http://127.0.0.1:8000"

# The Tab key waits no longer than this, and lists no more.
_COMPLETION_SECONDS = 0.5
_MOST_COMPLETIONS = 1000


@contextmanager
def connected(url: str, api_key: str | None, **options: Any) -> Iterator["Client"]:
    """Lend a client of the server; what goes wrong with it, or with a file, ends the command.

    It does not try again: whoever sits at a terminal wants to know at once.

    Args:
        url: Of the server.
        api_key: For it, if it wants one.
        options: Other keywords of `Client`.
    """
    from causalrn_client import Client

    with told():
        try:
            client = Client(url, api_key=api_key, max_retries=0, **options)
        except ValueError as error:
            wrong_option(error)
        with client:
            yield client


@contextmanager
def told() -> Iterator[None]:
    """End the command with one line about what goes wrong in the block, and what to do."""
    from causalrn_client import CausalRNError

    try:
        yield
    except BrokenPipeError:
        raise  # whoever read the output has gone; there is nobody to tell
    except CausalRNError as error:
        fail(explain(error))
    except OSError as error:
        fail(error)


def wrong_option(error: ValueError) -> NoReturn:
    """End the command because a client refuses its options."""
    option = "--api-key" if "api_key" in str(error) else "--url"
    fail(f"{option}: {error}")


def explain(error: "CausalRNError") -> str:
    """An error, and what to do about it where that is certain."""
    from causalrn_client import APIConnectionError, AuthenticationError, RateLimitError

    advice = ""
    if isinstance(error, APIConnectionError) and not error.may_have_arrived:
        advice = "Start a server with `make serve`, or say with --url where one is."
    elif isinstance(error, AuthenticationError):
        advice = "Give a key with --api-key or in CAUSALRN_API_KEY."
    elif isinstance(error, RateLimitError) and error.retry_after is not None:
        advice = f"Try again in {error.retry_after:.0f} s."
    return f"{str(error).rstrip('.')}. {advice}" if advice else str(error)


def complete_session(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The ids of the server's sessions, with a word about each; none if it does not say at once."""
    try:
        with _asking(ctx) as client:
            sessions = client.sessions(limit=_MOST_COMPLETIONS)
            return [
                (session.id, f"{session.n_tokens} tokens")
                for session in itertools.islice(sessions, _MOST_COMPLETIONS)
                if session.id.startswith(incomplete)
            ]
    except Exception:
        return []  # in the middle of a line there is no place for an error


def complete_model(ctx: typer.Context, incomplete: str) -> list[str]:
    """The names of the server's models; none if it does not say at once."""
    try:
        with _asking(ctx) as client:
            return [model.id for model in client.models() if model.id.startswith(incomplete)]
    except Exception:
        return []


def _asking(ctx: typer.Context) -> "Client":
    from causalrn_client import Client

    # What is not on the line yet, the client takes from the environment.
    given = {"base_url": ctx.params.get("url"), "api_key": ctx.params.get("api_key")}
    return Client(**given, timeout=_COMPLETION_SECONDS, max_retries=0)


Url = Annotated[
    str, typer.Option(help="Address of the server.", envvar="CAUSALRN_BASE_URL", metavar="URL")
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        help="Key for the server; better given by the variable, which other users cannot see.",
        envvar="CAUSALRN_API_KEY",
        metavar="KEY",
        show_default=False,
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Name of a model; the server's default if left out.",
        metavar="NAME",
        autocompletion=complete_model,
    ),
]
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
