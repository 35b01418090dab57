"""Ends the requests of an engine whose step does not come to an end."""

import asyncio
import logging
from collections.abc import Callable

from server.engine.readers import Readers
from server.errors import EngineError

logger = logging.getLogger(__name__)

_CHECKS_PER_STALL = 4


class Watchdog:
    """Fails all requests of an engine that has work, but makes no step.

    Args:
        name: of the engine's model, for the log.
        seconds_still: how long the engine has had work without making a step.
        readers: where requests are failed when it is stuck.
        stall_seconds: how long it may have work without making a step.
    """

    def __init__(
        self,
        name: str,
        seconds_still: Callable[[], float],
        readers: Readers,
        stall_seconds: float,
    ) -> None:
        self._name = name
        self._seconds_still = seconds_still
        self._readers = readers
        self._stall_seconds = stall_seconds
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch; called from the event loop."""
        self._task = asyncio.create_task(self._watch())

    def stop(self) -> None:
        """Stop watching; idempotent."""
        if self._task is not None:
            self._task.cancel()
            self._task = None  # its last exception refers to this object, and so to the engine

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._stall_seconds / _CHECKS_PER_STALL)
            still = self._seconds_still()
            if self._readers and still > self._stall_seconds:
                logger.critical("the engine of %s made no step for %.0f s", self._name, still)
                self._readers.fail_all(
                    EngineError("the engine is stuck; this request was given up")
                )
