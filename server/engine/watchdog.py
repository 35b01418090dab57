"""Ends the requests of an engine whose step does not come to an end."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TypeVar

from causalrn.server.engine.readers import Readers
from causalrn.server.errors import EngineError, NotReadyError

logger = logging.getLogger(__name__)

_CHECKS_PER_STALL = 4
_LATE_SECONDS = 1.0  # by which a check on a busy machine may well be late

T = TypeVar("T")


class Watchdog:
    """Fails all requests of an engine that has work, but makes no step.

    A process that stood still, because it was stopped or its machine slept, is no fault of the
    engine: then the watchdog stood still as well, and counts from when it went on.

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
        self._pause = stall_seconds / _CHECKS_PER_STALL
        self._awake_since = self._checked = time.monotonic()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch; called from the event loop."""
        self._task = asyncio.create_task(self._watch())

    def stop(self) -> None:
        """Stop watching; idempotent."""
        if self._task is not None:
            self._task.cancel()
            self._task = None  # its last exception refers to this object, and so to the engine

    def is_too_long(self, seconds: float) -> bool:
        """Whether something that has lasted so long is stuck, and not the whole process."""
        return min(seconds, self._seconds_awake()) > self._stall_seconds

    def check(self) -> None:
        """Return if the engine moves.

        Raises:
            NotReadyError: it has work, but makes no step.
        """
        still = self._seconds_still()
        if self.is_too_long(still):
            raise NotReadyError(
                f"the engine of {self._name} has work, but made no step for {still:.0f} s"
            )

    async def wait(self, answer: asyncio.Future[T]) -> T:
        """The engine's answer.

        Raises:
            NotReadyError: the engine takes too long.
        """
        began = time.monotonic()
        try:
            while not self.is_too_long(time.monotonic() - began):
                done, _ = await asyncio.wait({answer}, timeout=self._pause)
                if done:
                    return answer.result()
        finally:
            answer.cancel()
        raise NotReadyError(f"the engine of {self._name} is stuck")

    async def _watch(self) -> None:
        self._awake_since = self._checked = time.monotonic()
        while True:
            await asyncio.sleep(self._pause)
            self._awake_since = time.monotonic() - self._seconds_awake()
            self._checked = time.monotonic()
            still = self._seconds_still()
            if self._readers and self.is_too_long(still):
                logger.critical("the engine of %s made no step for %.0f s", self._name, still)
                self._readers.fail_all(
                    EngineError("the engine is stuck; this request was given up")
                )

    def _seconds_awake(self) -> float:
        """How long the process has run without standing still; 0 if it has only just gone on."""
        now = time.monotonic()
        late = now - self._checked - self._pause
        return 0.0 if late > max(self._pause, _LATE_SECONDS) else now - self._awake_since
