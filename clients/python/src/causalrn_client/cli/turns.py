"""Commands that take a turn in a session: generate, read, recall."""

import typer

from causalrn_client.cli.options import (
    AllowPartial,
    MaxTokens,
    Mode,
    Raw,
    Seed,
    Temperature,
    TopK,
    TopP,
    Wait,
)
from causalrn_client.cli.server import DEFAULT_URL, ApiKey, Json, SessionId, Url, connected
from causalrn_client.cli.terminal import check_answer, say, write_stream
from causalrn_client.cli.text import File, Prompt, Text, answer, ids, read_prompt
from causalrn_client.generation_options import TurnOptions


def generate(
    id: SessionId,
    text: Text = None,
    file: File = None,
    mode: Mode = None,
    max_tokens: MaxTokens = None,
    allow_partial: AllowPartial = False,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    seed: Seed = None,
    wait: Wait = False,
    raw: Raw = False,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Generate from TEXT in a session, and print the answer as it is written.

    The session then holds TEXT and the answer. Options that are left out have the server's
    defaults. The exit status is 3 if the answer is cut off, 4 if a recall finds nothing, and 5 if
    the answer is wrong.
    """
    options = TurnOptions(
        max_tokens=max_tokens,
        allow_partial=allow_partial or None,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
    )
    _take_turn(url, api_key, id, read_prompt(text, file), mode, wait, raw, json, options)


def recall(
    id: SessionId,
    text: Text = None,
    file: File = None,
    max_tokens: MaxTokens = None,
    allow_partial: AllowPartial = False,
    wait: Wait = False,
    raw: Raw = False,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Continue, word for word, the passage that the session has read and that begins with TEXT.

    If nothing is found, nothing is printed and the exit status is 4. It is 5 if the answer is not
    what the session has read, and 3 if it is cut off.
    """
    options = TurnOptions(max_tokens=max_tokens, allow_partial=allow_partial or None)
    _take_turn(url, api_key, id, read_prompt(text, file), "recall", wait, raw, json, options)


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
    passage = read_prompt(text, file)
    words = passage if isinstance(passage, str) else None
    with connected(url, api_key) as client:
        session = client.session(id)
        generation = session.read(words, token_ids=ids(passage), wait=wait or None)
        if json:
            typer.echo(generation.model_dump_json())
        elif generation.session is not None:
            say(f"The session holds {generation.session.n_tokens:,} tokens now.")


def _take_turn(
    url: str,
    api_key: str | None,
    id: str,
    prompt: Prompt,
    mode: str | None,
    wait: bool,
    raw: bool,
    json: bool,
    options: TurnOptions,
) -> None:
    words = prompt if isinstance(prompt, str) else None
    options["token_ids"] = ids(prompt)
    with connected(url, api_key) as client:
        session = client.session(id)
        if json:
            generation = session.generate(words, mode=mode, wait=wait or None, **options)
            typer.echo(generation.model_dump_json())
        else:
            with session.stream(words, mode=mode, wait=wait or None, **options) as stream:
                as_bytes = words is None
                write_stream((answer(chunk, as_bytes=as_bytes) for chunk in stream), raw=raw)
            generation = stream.result()
        check_answer(
            generation,
            mode=mode,
            max_tokens=options.get("max_tokens"),
            temperature=options.get("temperature"),
        )
