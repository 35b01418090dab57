"""Commands that take a turn in a session: generate, read, recall."""

import typer

from causalrn_client.cli.options import MaxTokens, Mode, Seed, Temperature, TopK, TopP, Wait
from causalrn_client.cli.server import DEFAULT_URL, ApiKey, Json, SessionId, Url, connected
from causalrn_client.cli.terminal import check_ended, say, write_stream
from causalrn_client.cli.text import File, Text, read_text
from causalrn_client.generation_options import TurnOptions


def generate(
    id: SessionId,
    text: Text = None,
    file: File = None,
    mode: Mode = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    seed: Seed = None,
    wait: Wait = False,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Generate from TEXT in a session, and print the answer as it is written.

    The session then holds TEXT and the answer. Options that are left out have the server's
    defaults.
    """
    options = TurnOptions(
        max_tokens=max_tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed
    )
    _take_turn(url, api_key, id, read_text(text, file), mode, wait, json, options)


def recall(
    id: SessionId,
    text: Text = None,
    file: File = None,
    max_tokens: MaxTokens = None,
    wait: Wait = False,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Continue, word for word, the passage that the session has read and that begins with TEXT."""
    options = TurnOptions(max_tokens=max_tokens)
    _take_turn(url, api_key, id, read_text(text, file), "recall", wait, json, options)


def read(
    id: SessionId,
    text: Text = None,
    file: File = None,
    wait: Wait = False,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Read TEXT, a file or standard input into a session, without an answer."""
    passage = read_text(text, file)
    with connected(url, api_key) as client:
        generation = client.session(id).read(passage, wait=wait or None)
        if json:
            typer.echo(generation.model_dump_json())
        elif generation.session is not None:
            say(f"The session holds {generation.session.n_tokens:,} tokens now.")


def _take_turn(
    url: str,
    api_key: str | None,
    id: str,
    prompt: str,
    mode: str | None,
    wait: bool,
    json: bool,
    options: TurnOptions,
) -> None:
    with connected(url, api_key) as client:
        session = client.session(id)
        if json:
            generation = session.generate(prompt, mode=mode, wait=wait or None, **options)
            typer.echo(generation.model_dump_json())
            return
        with session.stream(prompt, mode=mode, wait=wait or None, **options) as stream:
            write_stream(chunk.text for chunk in stream)
        check_ended(stream.result().finish_reason)
