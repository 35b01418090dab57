"""Waiting for work on a store that is not to be torn apart."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


async def settle(work: asyncio.Future[T], undo: Callable[[], object] | None = None) -> T:
    """The result of work, which goes on to its end even if this is cancelled.

    Args:
        work: that runs already.
        undo: called once it succeeded, if nobody waits for it any more.
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
    """Let work go on of which nobody wants to know how it ends."""
    work.add_done_callback(lambda work: work.cancelled() or work.exception())
