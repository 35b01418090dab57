"""Commands that save sessions to files and restore them."""

from pathlib import Path
from typing import Annotated

import typer

from causalrn_client.cli.manage import print_session
from causalrn_client.cli.server import DEFAULT_URL, ApiKey, Json, SessionId, Url, connected
from causalrn_client.cli.terminal import say, transfer_bar


def snapshot(
    id: SessionId,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="The file to write; ID.safetensors if left out.",
            show_default=False,
        ),
    ] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Save a session to a file, which appears only once it is complete."""
    path = Path(f"{id}.safetensors") if file is None else file
    with connected(url, api_key) as client:
        with transfer_bar(path.name) as progress:
            client.session(id).snapshot(path, progress=progress)
        say(f"Saved in {path}: {path.stat().st_size:,} bytes.")


def restore(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A file that `snapshot` wrote."),
    ],
    id: Annotated[
        str | None,
        typer.Option(
            help="The id for the session, which replaces one that has it already; a new id if left "
            "out.",
            metavar="ID",
        ),
    ] = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Make a session from a file and print its id."""
    with connected(url, api_key) as client:
        with transfer_bar(file.name) as progress:
            session = client.restore(file, id, keep=True, progress=progress)
        print_session(session, json=json)
