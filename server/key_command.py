"""`causalrn key`: make an API key."""

import json
import re
from typing import Annotated

import typer

from server.api_keys import NAME, Role, new_key

app = typer.Typer(add_completion=False)


def _name(value: str) -> str:
    if not re.fullmatch(NAME, value):
        raise typer.BadParameter("use 1 to 64 letters, digits, '.', '_' or '-'")
    return value


@app.command()
def key(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Of whoever will use it.", callback=_name)
    ],
    role: Annotated[
        Role, typer.Option(help="An admin may also load models, and sees everybody's sessions.")
    ] = "user",
) -> None:
    """Make an API key for a server, and the entry that lets the server know it.

    The key is shown this once; the entry holds only its hash.
    """
    secret, hash = new_key()
    entry = {"name": name, "hash": hash, "role": role}
    table = "\n".join(f'{field} = "{value}"' for field, value in entry.items())
    typer.echo(f"The key, which nothing will show again:\n\n{secret}\n")
    typer.echo(f"For the file that CAUSALRN_API_KEYS_FILE names:\n\n[[key]]\n{table}\n")
    typer.echo(f"Or for the JSON list in CAUSALRN_API_KEYS:\n\n{json.dumps(entry)}")
