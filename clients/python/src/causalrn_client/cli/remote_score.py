"""The command that tells how likely texts are."""

from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from causalrn_client.cli.lines import Job, json_line, run_lines
from causalrn_client.cli.options import Deadline, Mode
from causalrn_client.cli.remote_generate import Concurrency
from causalrn_client.cli.server import DEFAULT_URL, ApiKey, Json, ModelName, Url, connected
from causalrn_client.cli.terminal import fail
from causalrn_client.cli.text import argument, read_lines

if TYPE_CHECKING:
    from causalrn_client import CausalRNError, Score

Pair = tuple[str, str]


def score(
    prompt: Annotated[
        str | None, typer.Argument(help="The text before it.", show_default=False)
    ] = None,
    completion: Annotated[
        str | None, typer.Argument(help="The text to score.", show_default=False)
    ] = None,
    lines: Annotated[
        Path | None,
        typer.Option(
            help="Score each line of this file (a hyphen for standard input), which is JSON like "
            '{"prompt": "a", "completion": "b"}. Prints a log-probability for each line.',
            metavar="FILE",
        ),
    ] = None,
    concurrency: Concurrency = 8,
    model: ModelName = None,
    mode: Mode = None,
    deadline: Deadline = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Tell how likely the model finds COMPLETION after PROMPT."""
    if lines is not None:
        if prompt is not None:
            fail("give two texts or --lines, not both")
        pairs = [_pair(number, line) for number, line in enumerate(read_lines(lines), 1)]
        _score_lines(pairs, concurrency, model, mode, deadline, json, url, api_key)
        return
    if prompt is None or completion is None:
        fail("give two texts, PROMPT and COMPLETION, or --lines")
    try:
        texts = argument(prompt), argument(completion)
    except UnicodeError as error:
        fail(f"the text is not UTF-8: {error}")
    with connected(url, api_key) as client:
        found = client.score(*texts, model=model, mode=mode, deadline=deadline)
    typer.echo(found.model_dump_json() if json else _details(found))


def _details(score: "Score") -> str:
    likeliest = sum(token.is_likeliest for token in score.tokens)
    lines = {
        "model": score.model,
        "logprob": f"{score.logprob:.6f}",
        "perplexity": f"{score.perplexity:.6g}",
        "likeliest": f"{likeliest:,} of {len(score.tokens):,} tokens",
    }
    return "\n".join(f"{name:<12}{value}" for name, value in lines.items())


def _pair(number: int, line: str) -> Pair:
    try:
        value = loads(line)
    except (ValueError, RecursionError):  # also of numbers with too many digits
        value = None
    if not isinstance(value, dict) or value.keys() != {"prompt", "completion"}:
        fail(f'line {number} is not JSON like {{"prompt": "a", "completion": "b"}}')
    for name, text in value.items():
        if not isinstance(text, str):
            fail(f"line {number}: {name} is not a text")
    return value["prompt"], value["completion"]


def _score_lines(
    pairs: list[Pair],
    concurrency: int,
    model: str | None,
    mode: str | None,
    deadline: float | None,
    json: bool,
    url: str,
    api_key: str | None,
) -> None:
    from causalrn_client import Score

    def show(place: int, result: "Score | CausalRNError | None") -> str | None:
        if not json:
            return f"{result.logprob:.6f}" if isinstance(result, Score) else ""
        return json_line(place, result)

    run_lines(
        Job(
            len(pairs),
            lambda client, report: client.score_many(
                pairs,
                max_concurrency=concurrency,
                progress=report,
                model=model,
                mode=mode,
                deadline=deadline,
            ),
            show,
            lambda score: len(score.tokens),
            tells_errors=json,
        ),
        url,
        api_key,
    )
