"""Waiting for work that has to be finished even if nobody waits for it any more."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


async def settle(work: asyncio.Future[T], undo: Callable[[], object] | None = None) -> T:
    """The result of work that goes on to its end even if waiting for it is cancelled.

    Args:
        work: runs already.
        undo: called when it has succeeded, if waiting was cancelled before.
    """

    def finish(work: asyncio.Future[T]) -> None:
        if not work.cancelled() and work.exception() is None and undo is not None:
            undo()

    try:
        await asyncio.wait({work})
    except asyncio.CancelledError:
        work.add_done_callback(finish)
        raise
    return work.result()


def forget(work: asyncio.Future[Any]) -> None:
    """Let work go on without waiting for it or caring how it ends."""
    work.add_done_callback(lambda work: work.cancelled() or work.exception())
