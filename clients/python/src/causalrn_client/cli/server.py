"""The connection of a command to its server, and the options that choose what to talk to."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from causalrn_client.cli.terminal import fail

if TYPE_CHECKING:
    from causalrn_client import CausalRNError, Client, ConfigurationError

DEFAULT_URL = "http://127.0.0.1:8000"

# How long the Tab key waits, and how much it lists at most.
_COMPLETION_SECONDS = 0.5
_MOST_COMPLETIONS = 1000


@contextmanager
def connected(url: str, api_key: str | None, **options: Any) -> Iterator["Client"]:
    """Provide a client. An error of the client, or of a file, ends the command.

    Requests are not retried: people at a terminal want to know at once.

    Args:
        url: The address of the server.
        api_key: The key for it, if it requires one.
        options: Other arguments of `Client`.
    """
    from causalrn_client import Client, ConfigurationError

    with told():
        try:
            client = Client(url, api_key=api_key, max_retries=0, **options)
        except ConfigurationError as error:
            wrong_option(error)
        with client:
            yield client


@contextmanager
def told() -> Iterator[None]:
    """End the command with one line about an error in the block, and what to do about it."""
    from causalrn_client import CausalRNError

    try:
        yield
    except BrokenPipeError:
        raise  # whoever read the output has gone, so there is nobody to tell
    except CausalRNError as error:
        fail(explain(error))
    except OSError as error:
        fail(error)


def wrong_option(error: "ConfigurationError") -> NoReturn:
    """End the command because the client does not accept an option, or the environment."""
    options = {"api_key,": "--api-key: ", "base_url": "--url: "}
    fail(options.get(str(error).split()[0], "") + str(error))


def explain(error: "CausalRNError") -> str:
    """Describe an error, and what to do about it if that is certain."""
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
    """List the ids of the server's sessions, each with its size; none if the server is slow."""
    try:
        with _asking(ctx) as client:
            sessions = client.sessions(limit=_MOST_COMPLETIONS)
            return [
                (session.id, f"{session.n_tokens} tokens")
                for session in itertools.islice(sessions, _MOST_COMPLETIONS)
                if session.id.startswith(incomplete)
            ]
    except Exception:
        return []  # while somebody types, there is no place for an error


def complete_model(ctx: typer.Context, incomplete: str) -> list[str]:
    """List the names of the server's models; none if the server is slow."""
    try:
        with _asking(ctx) as client:
            return [model.id for model in client.models() if model.id.startswith(incomplete)]
    except Exception:
        return []


def _asking(ctx: typer.Context) -> "Client":
    from causalrn_client import Client

    # The client takes from the environment what has not been typed yet.
    given = {"base_url": ctx.params.get("url"), "api_key": ctx.params.get("api_key")}
    return Client(**given, timeout=_COMPLETION_SECONDS, max_retries=0)


Url = Annotated[
    str, typer.Option(help="The address of the server.", envvar="CAUSALRN_BASE_URL", metavar="URL")
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        help="The key for the server. Other users can see this option, but not the variable.",
        envvar="CAUSALRN_API_KEY",
        metavar="KEY",
        show_default=False,
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="The name of a model; the server's default if left out.",
        metavar="NAME",
        autocompletion=complete_model,
    ),
]
SessionId = Annotated[
    str,
    typer.Argument(metavar="ID", help="The id of the session.", autocompletion=complete_session),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Ttl = Annotated[
    float | None,
    typer.Option(
        help="Seconds without use after which the server drops the session; by default it decides.",
        min=0,
        metavar="SECONDS",
    ),
]
