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
    from collections.abc import Awaitable, Callable, Sequence

    from causalrn_client import AsyncClient, CausalRNError, Score

    Report = Callable[[int, Score | CausalRNError], None]

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
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going",
            help="If lines are not such JSON, name them, and score the others all the same.",
        ),
    ] = False,
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
        pairs, bad = _pairs(read_lines(lines))
        if bad and not keep_going:
            number = min(bad)
            fail(f"line {number + 1}: {bad[number]}; --keep-going scores the others")
        _score_lines(pairs, bad, concurrency, model, mode, deadline, json, url, api_key)
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


def _pairs(lines: list[bytes]) -> tuple[dict[int, Pair], dict[int, str]]:
    """Return the pairs, and what is wrong with the other lines, both by place."""
    pairs, bad = {}, {}
    for place, line in enumerate(lines):
        try:
            pairs[place] = _pair(line)
        except ValueError as error:
            bad[place] = str(error)
    return pairs, bad


def _pair(line: bytes) -> Pair:
    """Parse a line.

    Raises:
        ValueError: The line is not JSON like it should be.
    """
    try:
        value = loads(line.decode())
    except (ValueError, RecursionError):  # also of numbers with too many digits
        value = None
    if not isinstance(value, dict) or value.keys() != {"prompt", "completion"}:
        raise ValueError('not JSON like {"prompt": "a", "completion": "b"}')
    for name, text in value.items():
        if not isinstance(text, str):
            raise ValueError(f"{name} is not a text")
    return value["prompt"], value["completion"]


def _score_lines(
    pairs: dict[int, Pair],
    bad: dict[int, str],
    concurrency: int,
    model: str | None,
    mode: str | None,
    deadline: float | None,
    json: bool,
    url: str,
    api_key: str | None,
) -> None:
    from causalrn_client import InvalidRequestError, Score

    places = list(pairs)

    def start(client: "AsyncClient", report: "Report") -> "Awaitable[Sequence[Score]]":
        for place, reason in bad.items():
            report(place, InvalidRequestError(reason))
        return client.score_many(
            list(pairs.values()),
            max_concurrency=concurrency,
            progress=lambda number, result: report(places[number], result),
            model=model,
            mode=mode,
            deadline=deadline,
        )

    def show(place: int, result: "Score | CausalRNError | None") -> str | None:
        if not json:
            return f"{result.logprob:.6f}" if isinstance(result, Score) else ""
        return json_line(place, result)

    run_lines(
        Job(
            len(pairs) + len(bad),
            start,
            show,
            lambda score: len(score.tokens),
            tells_errors=json,
        ),
        url,
        api_key,
    )
