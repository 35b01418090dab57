"""Makes one request for each line of a file, several at a time, and prints results in order."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import typer

from causalrn_client.cli.server import explain, told, wrong_option
from causalrn_client.cli.terminal import Tally, fail, say, write_line

if TYPE_CHECKING:
    from pydantic import BaseModel

    from causalrn_client import AsyncClient, CausalRNError

ResultT = TypeVar("ResultT")

SOME_FAILED = 3
"""The exit status if some lines failed and the others were printed."""

_INTERRUPTED = 130
_MOST_TOLD = 10  # failures that are reported one by one


@dataclass(frozen=True)
class Job(Generic[ResultT]):
    """What to do with the lines of a file.

    Attributes:
        size: The number of lines.
        start: Makes the requests, and reports each result or error with its position.
        show: Turns a result or an error into a line to print. It is called with None for a line
            that was not reached. If it returns None, nothing is printed.
        tokens: Returns the number of tokens in a result, to measure the speed.
        tells_errors: Whether `show` says what an error was.
        is_wrong: Whether a result, which is printed all the same, counts as a failure.
    """

    size: int
    start: Callable[
        ["AsyncClient", Callable[[int, "ResultT | CausalRNError"], None]],
        Awaitable[Sequence[ResultT]],
    ]
    show: Callable[[int, "ResultT | CausalRNError | None"], str | None]
    tokens: Callable[[ResultT], int]
    tells_errors: bool
    is_wrong: Callable[[ResultT], bool] = lambda _: False


class _Output(Generic[ResultT]):
    """Prints results in the order of their lines, each as soon as all before it are done."""

    def __init__(self, show: Callable[[int, "ResultT | CausalRNError | None"], str | None]) -> None:
        self._show = show
        self._waiting: dict[int, ResultT | CausalRNError] = {}
        self._next = 0

    def put(self, place: int, result: "ResultT | CausalRNError") -> None:
        self._waiting[place] = result
        while self._next in self._waiting:
            self._write(self._waiting.pop(self._next))

    def end(self) -> None:
        """Print the results that were waiting for others, which will not come any more."""
        for place in range(self._next, max(self._waiting, default=-1) + 1):
            self._write(self._waiting.pop(place, None))

    def _write(self, result: "ResultT | CausalRNError | None") -> None:
        line = self._show(self._next, result)
        self._next += 1
        if line is not None:
            write_line(line)


def run_lines(job: Job[ResultT], url: str, api_key: str | None) -> None:
    """Do a job and show its progress. If some of it fails, end the command with an error.

    Ctrl-C stops the requests in progress, and prints what is done.
    """
    from causalrn_client import (
        APIConnectionError,
        AsyncClient,
        BatchError,
        CausalRNError,
        ConfigurationError,
    )

    try:
        client = AsyncClient(url, api_key=api_key)
    except ConfigurationError as error:
        wrong_option(error)
    output = _Output(job.show)
    interrupted = False
    with told(), Tally(job.size) as tally:

        def report(place: int, result: ResultT | CausalRNError) -> None:
            if isinstance(result, CausalRNError):
                if isinstance(result, APIConnectionError) and not result.may_have_arrived:
                    raise result  # the server is gone, so the other lines need not try
                if not job.tells_errors and tally.failed < _MOST_TOLD:
                    say(f"line {place + 1}: {explain(result)}", style="red")
                tally.add(tokens=0, failed=True)
            else:
                wrong = job.is_wrong(result)
                if wrong and not job.tells_errors and tally.failed < _MOST_TOLD:
                    say(f"line {place + 1}: the answer is wrong", style="yellow")
                tally.add(tokens=job.tokens(result), failed=wrong)
            output.put(place, result)

        async def work() -> None:
            async with client:
                await client.health()  # fails at once if there is no server
                await job.start(client, report)

        try:
            asyncio.run(work())
        except BatchError:
            pass  # each error was reported already
        except KeyboardInterrupt:
            interrupted = True
        finally:
            output.end()
    if interrupted:
        say(f"Interrupted: {tally.done} of {job.size} lines are done.")
        raise typer.Exit(_INTERRUPTED)
    if tally.failed == job.size > 0:
        fail(f"all {job.size} lines failed")
    if tally.failed:
        say(f"{tally.failed} of {job.size} lines failed.", style="red")
        raise typer.Exit(SOME_FAILED)


def json_line(place: int, result: "BaseModel | CausalRNError | None") -> str | None:
    """Write a result or an error, with the number of its line, as JSON; None if not reached."""
    from causalrn_client import CausalRNError

    if result is None:
        return None
    if isinstance(result, CausalRNError):
        error = {"type": type(result).__name__, "message": explain(result)}
        value: dict[str, object] = {"error": error}
    else:
        value = result.model_dump(mode="json")
    return json.dumps({"line": place + 1} | value, ensure_ascii=False)
