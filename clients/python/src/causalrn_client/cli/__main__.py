"""`python -m causalrn_client.cli`."""

from causalrn_client.cli import app

app(prog_name="python -m causalrn_client.cli")
