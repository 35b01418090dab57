"""The commands of `causalrn session`. Those of `causalrn remote` are in `remote`.

The main package finds them by their entry points. Without it, `python -m causalrn_client.cli` runs
them. They need `causalrn-client[cli]`. Whatever imports httpx is itself imported only when it is
used, so that `--help` and the Tab key answer at once.
"""

import typer

from causalrn_client.cli.manage import create, delete, fork, list_sessions, show
from causalrn_client.cli.transfer import restore, snapshot
from causalrn_client.cli.turns import generate, read, recall

app = typer.Typer(
    name="session",
    help="Keep sessions on a server: make, use, save and restore them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(create)
app.command("list")(list_sessions)
app.command()(show)
app.command()(delete)
app.command()(fork)
app.command()(read)
app.command()(recall)
app.command()(generate)
app.command()(snapshot)
app.command()(restore)
