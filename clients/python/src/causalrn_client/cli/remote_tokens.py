"""Commands that turn texts into token ids and back."""

from typing import Annotated

import typer

from causalrn_client.cli.options import Mode
from causalrn_client.cli.server import DEFAULT_URL, ApiKey, Json, ModelName, Url, connected
from causalrn_client.cli.terminal import fail, write_stream
from causalrn_client.cli.text import File, Text, read_text

_MOST_DIGITS = 18


def tokenize(
    text: Text = None,
    file: File = None,
    model: ModelName = None,
    special: Annotated[
        bool,
        typer.Option("--special/--no-special", help="Include the special tokens around a prompt."),
    ] = True,
    mode: Mode = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Print the token ids of TEXT."""
    source = read_text(text, file)
    with connected(url, api_key) as client:
        found = client.tokenize(
            source,
            model=model,
            add_special_tokens=special,
            mode=mode,
            return_token_strs=json,
        )
    typer.echo(found.model_dump_json() if json else " ".join(map(str, found.tokens)))


def detokenize(
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ID...",
            help="Token ids; read from standard input if left out, or a hyphen.",
            show_default=False,
        ),
    ] = None,
    model: ModelName = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Print the text of token ids."""
    words = read_text("-", None).split() if not ids or ids == ["-"] else ids
    for word in words:
        if not (word.isascii() and word.isdecimal()) or len(word) > _MOST_DIGITS:
            fail(f"{word[:_MOST_DIGITS]!r} is not a token id")
    with connected(url, api_key) as client:
        write_stream([client.detokenize([int(word) for word in words], model=model)])
