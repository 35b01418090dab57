"""The commands of `causalrn remote`, which talk to a server."""

import typer

from causalrn_client.cli.remote_generate import generate
from causalrn_client.cli.remote_models import health, info, load, models, unload
from causalrn_client.cli.remote_score import score
from causalrn_client.cli.remote_tokens import detokenize, tokenize

app = typer.Typer(
    name="remote",
    help="Talk to a server: generate, score, tokenize, and manage its models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(generate)
app.command()(score)
app.command()(tokenize)
app.command()(detokenize)
app.command()(models)
app.command()(load)
app.command()(unload)
app.command()(info)
app.command()(health)
