"""`causalrn serve`: the server as a command."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from causalrn.model.device import Device
from causalrn.model.shipped import DEFAULT, checkpoint_folder, shipped_names
from causalrn.model.terminal import fail

app = typer.Typer(add_completion=False)


@app.command()
def serve(
    checkpoints: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CHECKPOINT",
            help=f"Folders, or names of {', '.join(shipped_names()) or 'shipped checkpoints'}; the "
            f"first one is the default model. By default, what CAUSALRN_CHECKPOINT says, or "
            f"{DEFAULT}.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8000,
    device: Annotated[
        Device | None, typer.Option(help="What to compute on; by default, as CAUSALRN_DEVICE says.")
    ] = None,
) -> None:
    """Serve models over HTTP: the same as `uvicorn causalrn.server.app:app`.

    Everything else is set by environment variables, CAUSALRN_POOL_BYTES and others, or by options
    of uvicorn, for which uvicorn itself is the command.
    """
    environment = dict(os.environ)
    if checkpoints:
        folders = [str(_found(name)) for name in checkpoints]
        environment["CAUSALRN_CHECKPOINT"] = os.pathsep.join(folders)
    if device is not None:
        environment["CAUSALRN_DEVICE"] = device
    # A process of its own kind: what signals do, and how it ends, is uvicorn's business.
    os.execve(
        sys.executable,
        [
            *(sys.executable, "-P", "-m", "uvicorn", "causalrn.server.app:app"),
            *("--app-dir", str(Path(__file__).parents[2])),
            *("--host", host, "--port", str(port)),
        ],
        environment,
    )


def _found(name: str) -> Path:
    path = checkpoint_folder(name)
    if not (path / "config.json").is_file():
        fail(
            f"{name}: no such checkpoint; there are {', '.join(shipped_names())}, or give a folder"
        )
    return path
