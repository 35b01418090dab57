"""Runs the commands as `python -m causalrn_client.cli`, without the main package."""

import typer

from causalrn_client.cli import app as session
from causalrn_client.cli.remote import app as remote

app = typer.Typer(
    help="Talk to a server, and keep sessions on it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(remote)
app.add_typer(session)
app(prog_name="python -m causalrn_client.cli")
