"""Commands about a server and its models."""

from json import dumps
from typing import TYPE_CHECKING, Annotated

import typer

from causalrn_client.cli.server import (
    DEFAULT_URL,
    ApiKey,
    Json,
    ModelName,
    Url,
    complete_model,
    connected,
)
from causalrn_client.cli.terminal import say

if TYPE_CHECKING:
    from causalrn_client import AdminModel, ServerInfo

_CONNECT_SECONDS = 5.0

Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="The name of the model.", autocompletion=complete_model),
]


def models(
    all: Annotated[
        bool,
        typer.Option("--all", help="Also list models that could be loaded. For administrators."),
    ] = False,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """List the models that the server serves, its default first."""
    with connected(url, api_key) as client:
        if all:
            known = client.admin_models()
            if json:
                typer.echo(dumps([model.model_dump() for model in known]))
            else:
                for model in known:
                    typer.echo(_row(model))
            return
        served = client.models()
        if json:
            typer.echo(dumps([model.model_dump() for model in served]))
        else:
            for one in served:
                typer.echo(one.id)


def load(name: Name, json: Json = False, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Load one of the server's checkpoints and serve it. For administrators."""
    from httpx import Timeout

    # Loading can take any time.
    with connected(url, api_key, timeout=Timeout(None, connect=_CONNECT_SECONDS)) as client:
        model = client.load_model(name)
    if json:
        typer.echo(model.model_dump_json())
    else:
        say(f"{model.name} is {model.status}.")


def unload(name: Name, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Stop serving a model once its requests are finished. For administrators."""
    from httpx import Timeout

    with connected(url, api_key, timeout=Timeout(None, connect=_CONNECT_SECONDS)) as client:
        client.unload_model(name)
    say(f"{name} is served no more.")


def info(
    model: ModelName = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Describe a model and the limits of the server."""
    with connected(url, api_key) as client:
        found = client.info(model=model)
    typer.echo(found.model_dump_json() if json else _details(found))


def health(json: Json = False, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Tell how busy the server is. The exit status is 1 if it takes no requests."""
    with connected(url, api_key) as client:
        found = client.health()
    if json:
        typer.echo(found.model_dump_json())
    else:
        typer.echo(
            f"{found.status}: {found.running:,} running, {found.waiting:,} waiting, "
            f"{found.pages_used:,} of {found.pages_total:,} pages in use"
        )


def _row(model: "AdminModel") -> str:
    status = f"{model.status} (default)" if model.is_default else model.status
    about = model.error or (model.fingerprint or "")[:12]
    return f"{model.name:<24}  {status:<18}  {' '.join(about.split())}".rstrip()


def _details(info: "ServerInfo") -> str:
    lines: dict[str, object] = {
        "model": info.model,
        "fingerprint": info.fingerprint,
        "version": info.version,
    }
    for group in (info.tokenizer, info.limits):
        lines |= {f"  {name}": value for name, value in group.items()}
    return "\n".join(f"{name:<24}{value}" for name, value in lines.items())
