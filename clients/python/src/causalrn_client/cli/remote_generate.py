"""The command that generates on a server."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from causalrn_client.cli.lines import Job, json_line, run_lines
from causalrn_client.cli.options import (
    Deadline,
    Frequency,
    MaxTokens,
    MinP,
    MinTokens,
    Mode,
    Presence,
    Raw,
    Repetition,
    Seed,
    Stop,
    Temperature,
    TopK,
    TopP,
)
from causalrn_client.cli.server import (
    DEFAULT_URL,
    ApiKey,
    Json,
    ModelName,
    Url,
    connected,
)
from causalrn_client.cli.terminal import check_answer, fail, is_wrong, write_stream
from causalrn_client.cli.text import (
    File,
    Prompt,
    Text,
    answer,
    ids,
    read_prompt,
    read_prompts,
)
from causalrn_client.generation_options import BatchOptions

if TYPE_CHECKING:
    from causalrn_client import CausalRNError, Generation

Lines = Annotated[
    Path | None,
    typer.Option(
        help="Take each line of this file (a hyphen for standard input) as a text. Prints one line "
        "for each, which is empty if it failed.",
        metavar="FILE",
    ),
]
Concurrency = Annotated[
    int, typer.Option(help="How many lines to work on at the same time.", min=1, metavar="N")
]


def generate(
    text: Text = None,
    file: File = None,
    lines: Lines = None,
    concurrency: Concurrency = 8,
    model: ModelName = None,
    mode: Mode = None,
    max_tokens: MaxTokens = None,
    min_tokens: MinTokens = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    min_p: MinP = None,
    seed: Seed = None,
    stop: Stop = None,
    presence: Presence = None,
    frequency: Frequency = None,
    repetition: Repetition = None,
    deadline: Deadline = None,
    raw: Raw = False,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Generate from TEXT, and print the answer as it is written.

    TEXT can be any bytes if the model is one of bytes. On a terminal, escapes
    stand in for control characters.

    With --lines, generate from each line of a file, several at a time. A display
    shows the progress. Ctrl-C stops and keeps what is done. Options that are left
    out have the server's defaults.

    The exit status is 3 if the answer is cut off or some lines failed, and 5 if
    the answer is wrong, because the model made a mistake.
    """
    options = BatchOptions(
        model=model,
        mode=mode,
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        seed=seed,
        stop=stop or None,
        presence_penalty=presence,
        frequency_penalty=frequency,
        repetition_penalty=repetition,
        deadline=deadline,
    )
    if lines is not None:
        if text is not None or file is not None:
            fail("give a text, --file or --lines, and no two of them")
        _generate_lines(read_prompts(lines), concurrency, options, json, url, api_key)
        return
    prompt = read_prompt(text, file)
    words = prompt if isinstance(prompt, str) else None
    with connected(url, api_key) as client:
        if json:
            whole = client.generate(words, token_ids=ids(prompt), **options)
            typer.echo(whole.model_dump_json())
        else:
            with client.stream(words, token_ids=ids(prompt), **options) as stream:
                as_bytes = words is None and not stop
                write_stream((answer(chunk, as_bytes=as_bytes) for chunk in stream), raw=raw)
            whole = stream.result()
        check_answer(whole, mode=mode, max_tokens=max_tokens, temperature=temperature)


def _generate_lines(
    prompts: Sequence[Prompt],
    concurrency: int,
    options: BatchOptions,
    json: bool,
    url: str,
    api_key: str | None,
) -> None:
    from causalrn_client import Generation

    def show(place: int, result: "Generation | CausalRNError | None") -> str | None:
        if json:
            return json_line(place, result)
        if not isinstance(result, Generation):
            return ""
        as_bytes = ids(prompts[place]) is not None and not options.get("stop")
        return answer(result, as_bytes=as_bytes)

    run_lines(
        Job(
            len(prompts),
            lambda client, report: client.generate_many(
                prompts, max_concurrency=concurrency, progress=report, **options
            ),
            show,
            lambda generation: generation.usage.completion_tokens,
            tells_errors=json,
            is_wrong=lambda generation: is_wrong(generation, options.get("temperature")),
        ),
        url,
        api_key,
    )
