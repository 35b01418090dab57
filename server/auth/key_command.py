"""`causalrn key`: make an API key."""

import re
from typing import Annotated

import typer

from causalrn.server.auth.key_format import NAME, Role, new_key

app = typer.Typer(add_completion=False)


def _name(value: str) -> str:
    if not re.fullmatch(NAME, value):
        raise typer.BadParameter("use 1 to 64 letters, digits, '.', '_' or '-'")
    return value


@app.command()
def key(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="What to call the key; best after who will use it.", callback=_name
        ),
    ],
    role: Annotated[
        Role, typer.Option(help="An admin may also load models, and sees everybody's sessions.")
    ] = "user",
) -> None:
    """Make an API key for a server, and the entry that lets the server know it.

    The key is shown this once, on the error stream; the entry, which holds only its hash, is the
    output: `causalrn key alice >> keys.toml`.
    """
    secret, hash = new_key()
    typer.echo(f"The key of {name}, which nothing will show again:\n\n{secret}\n", err=True)
    typer.echo("Its entry, for the file that CAUSALRN_API_KEYS_FILE names:\n", err=True)
    typer.echo(f'[[key]]\nname = "{name}"\nhash = "{hash}"\nrole = "{role}"\n')
