"""One request for each line of a file, several at a time, with their results in order."""

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
"""Exit status where some lines failed and the others are written."""

_INTERRUPTED = 130
_MOST_TOLD = 10  # failures that are told one by one


@dataclass(frozen=True)
class Job(Generic[ResultT]):
    """What is to be done with some lines.

    Attributes:
        size: How many they are.
        start: Makes the requests, and reports each when it is done.
        show: A result as a line; None for that of a line that failed or was not reached.
        tokens: Of a result, to measure the speed by.
        tells_errors: Whether `show` of an error says what it was.
    """

    size: int
    start: Callable[
        ["AsyncClient", Callable[[int, "ResultT | CausalRNError"], None]],
        Awaitable[Sequence[ResultT]],
    ]
    show: Callable[[int, "ResultT | CausalRNError | None"], str | None]
    tokens: Callable[[ResultT], int]
    tells_errors: bool


class _Output(Generic[ResultT]):
    """Writes results in the order of their lines, each as soon as all before it are there."""

    def __init__(self, show: Callable[[int, "ResultT | CausalRNError | None"], str | None]) -> None:
        self._show = show
        self._waiting: dict[int, ResultT | CausalRNError] = {}
        self._next = 0

    def put(self, place: int, result: "ResultT | CausalRNError") -> None:
        self._waiting[place] = result
        while self._next in self._waiting:
            self._write(self._waiting.pop(self._next))

    def end(self) -> None:
        """Write those that waited for others, which do not come any more."""
        for place in range(self._next, max(self._waiting, default=-1) + 1):
            self._write(self._waiting.pop(place, None))

    def _write(self, result: "ResultT | CausalRNError | None") -> None:
        line = self._show(self._next, result)
        self._next += 1
        if line is not None:
            write_line(line)


def run_lines(job: Job[ResultT], url: str, api_key: str | None) -> None:
    """Do a job, show how far it is, and end the command where not all of it could be done.

    Ctrl-C ends the requests that are under way; what is done by then is written.
    """
    from causalrn_client import APIConnectionError, AsyncClient, BatchError, CausalRNError

    try:
        client = AsyncClient(url, api_key=api_key)
    except ValueError as error:
        wrong_option(error)
    output = _Output(job.show)
    interrupted = False
    with told(), Tally(job.size) as tally:

        def report(place: int, result: ResultT | CausalRNError) -> None:
            if isinstance(result, CausalRNError):
                if isinstance(result, APIConnectionError) and not result.may_have_arrived:
                    raise result  # nobody is there any more: the other lines need not try
                if not job.tells_errors and tally.failed < _MOST_TOLD:
                    say(f"line {place + 1}: {explain(result)}", style="red")
                tally.add(tokens=0, failed=True)
            else:
                tally.add(tokens=job.tokens(result), failed=False)
            output.put(place, result)

        async def work() -> None:
            async with client:
                await client.health()  # tells at once where nobody is there
                await job.start(client, report)

        try:
            asyncio.run(work())
        except BatchError:
            pass  # each was told
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
    """A result, or an error, and the number of its line; None for one that was not reached."""
    from causalrn_client import CausalRNError

    if result is None:
        return None
    if isinstance(result, CausalRNError):
        error = {"type": type(result).__name__, "message": explain(result)}
        value: dict[str, object] = {"error": error}
    else:
        value = result.model_dump(mode="json")
    return json.dumps({"line": place + 1} | value, ensure_ascii=False)
