"""Commands that make, list, show, delete and fork sessions."""

from typing import TYPE_CHECKING, Annotated

import typer

from causalrn_client.cli.server import (
    DEFAULT_URL,
    ApiKey,
    Json,
    ModelName,
    SessionId,
    Ttl,
    Url,
    complete_session,
    connected,
)
from causalrn_client.cli.table import ROW_TITLES, details, row

if TYPE_CHECKING:
    from causalrn_client import Session


def create(
    model: ModelName = None,
    ttl: Ttl = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Make an empty session and print its id."""
    with connected(url, api_key) as client:
        print_session(client.session(model=model, ttl=ttl, keep=True).open(), json=json)


def list_sessions(json: Json = False, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """List all sessions, oldest first."""
    with connected(url, api_key) as client:
        sessions = client.sessions()
        if not json:
            typer.echo(ROW_TITLES)
            for session in sessions:
                typer.echo(row(session))
            return
        before = "["
        for session in sessions:
            typer.echo(before + session.model_dump_json(exclude={"token_ids"}), nl=False)
            before = ",\n"
        typer.echo("]" if before != "[" else "[]")


def show(
    id: SessionId,
    token_ids: Annotated[
        bool, typer.Option("--token-ids", help="Also show its token ids.")
    ] = False,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Describe a session."""
    with connected(url, api_key) as client:
        info = client.session(id).info(include_token_ids=token_ids)
        if json:
            typer.echo(info.model_dump_json(exclude=None if token_ids else {"token_ids"}))
        else:
            typer.echo(details(info))


def delete(
    ids: Annotated[
        list[str],
        typer.Argument(
            metavar="ID...", help="The ids of the sessions.", autocompletion=complete_session
        ),
    ],
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Delete sessions, one after the other. Stops at the first one that does not exist."""
    with connected(url, api_key) as client:
        for id in ids:
            client.session(id).delete()


def fork(
    id: SessionId,
    ttl: Ttl = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Make a copy of a session and print its id. Both share memory on the server."""
    with connected(url, api_key) as client:
        print_session(client.session(id).fork(ttl=ttl, keep=True), json=json)


def print_session(session: "Session", *, json: bool) -> None:
    """Print the id of a new session, or its description as JSON."""
    if json:
        typer.echo(session.info().model_dump_json(exclude={"token_ids"}))
    else:
        typer.echo(session.id)
