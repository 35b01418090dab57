"""The few things that asyncio and threads do differently, side by side.

The asynchronous client is the source of the synchronous one: `unasync.py` drops `async` from its
names, so that `async_sleep` becomes `sleep` and `AsyncShield` becomes `Shield`.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, ParamSpec, TypeVar, cast

from anyio import CancelScope

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
    """Keeps the cancellation of a task from reaching work at a moment that it is not made for.

    The work gets a task of its own: when a whole scope is cancelled, as anyio does it, each further
    wait of the task inside the scope ends at once.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()  # the event loop keeps no strong reference

    async def run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Starts some work and waits for it. Cancelling the wait does not stop the work."""
        await asyncio.shield(self._start(work()))

    async def exchange(
        self,
        work: Callable[[], Coroutine[Any, Any, ResultT]],
        discard: Callable[[ResultT], Coroutine[Any, Any, None]] | None = None,
    ) -> ResultT:
        """Returns the result of work with a connection. Cancelling the wait stops the work.

        It stops where that does no harm. A cancellation by asyncio ends the next wait of its task,
        even if it is that for a lock by which `httpcore` gives a connection back, and then the
        connection counts as busy for ever. One by anyio leaves such waits alone.

        Args:
            work: The work.
            discard: Gives back its result if the wait was cancelled when it was already there.
        """
        scope = CancelScope()

        async def stoppable() -> ResultT | None:
            with scope:
                return await work()
            return None

        task = self._start(stoppable())
        try:
            return cast(ResultT, await asyncio.shield(task))
        except asyncio.CancelledError:
            scope.cancel()
            await self.run(partial(_discard, task, discard))
            raise

    async def finish(self) -> None:
        """Waits for work whose own waiting task was cancelled."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, ResultT]) -> asyncio.Task[ResultT]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _discard(
    task: asyncio.Task[ResultT | None],
    discard: Callable[[ResultT], Coroutine[Any, Any, None]] | None,
) -> None:
    await asyncio.wait([task])
    if not task.cancelled() and task.exception() is None:
        result = task.result()
        if discard is not None and result is not None:
            await discard(result)


class Shield:
    """The same for threads, which nobody can cancel."""

    def run(self, work: Callable[[], None]) -> None:
        """Does some work."""
        work()

    def exchange(
        self, work: Callable[[], ResultT], _discard: Callable[[ResultT], None] | None = None
    ) -> ResultT:
        """Returns the result of some work."""
        return work()

    def finish(self) -> None:
        """Returns at once, because nothing is left unfinished."""
