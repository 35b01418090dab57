"""The few things that asyncio and threads do differently, side by side.

The asynchronous client is the source of the synchronous one: `unasync.py` drops `async` from its
names, so that `async_sleep` becomes `sleep` and `AsyncShield` becomes `Shield`.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
ResultT = TypeVar("ResultT")

async_sleep = asyncio.sleep
sleep = time.sleep

# A slow disk must not hold up the event loop; a thread may wait for it.
async_run_blocking = asyncio.to_thread


def run_blocking(function: Callable[P, ResultT], *args: P.args, **kwargs: P.kwargs) -> ResultT:
    """Calls a function that may block."""
    return function(*args, **kwargs)


class AsyncShield:
    """Lets work come to its end even when the task that waits for it is cancelled.

    The work gets a task of its own: when a whole scope is cancelled, as anyio does it, each further
    wait of the task inside the scope ends at once.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()  # the event loop keeps no strong reference

    async def run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Starts some work and waits for it."""
        task = asyncio.create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)

    async def finish(self) -> None:
        """Waits for work whose own waiting task was cancelled."""
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Shield:
    """The same for threads, which nobody can cancel."""

    def run(self, work: Callable[[], None]) -> None:
        """Does some work."""
        work()

    def finish(self) -> None:
        """Returns at once, because `run` leaves nothing unfinished."""
