"""SIGTERM and SIGINT: finish what runs, refuse what comes, then end."""

import asyncio
import logging
import os
import signal
import threading
from types import FrameType
from typing import Any

from causalrn.server.engine.engines import Engines

logger = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SIGNALLED = 128  # plus the signal's number: the exit status that shells show for it
START_FAILED = 3
"""The exit status of a server that could not start; uvicorn's is the same."""

_LAST_WORDS_SECONDS = 2.0  # for responses to leave after the engines have stopped


class SignalDrain:
    """Lets running requests finish before a signal ends the server.

    uvicorn closes its listening socket at the signal and tells the app only once every connection
    is closed. So this stands before uvicorn's own handlers and keeps the signal from them at first:
    while running requests finish, the server still answers, as not ready and with 503 to new work.
    Then, or after the deadline, or at a second signal, the requests that are left end with an error
    and uvicorn gets its signal.

    Args:
        engines: what has to finish.
        seconds: how long running requests may take to finish.
    """

    def __init__(self, engines: Engines, seconds: float) -> None:
        self._engines = engines
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._previous: dict[int, Any] = {}
        self._hurry = asyncio.Event()
        self._number: int | None = None
        self._task: asyncio.Task[None] | None = None

    def install(self) -> None:
        """Take the signals over; does nothing outside the main thread, which has no signals."""
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}

    def uninstall(self) -> None:
        """Give the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def leave(self) -> None:
        """End the process as its signal would, and do not wait for threads.

        Python waits for them, or freezes them in the middle of a compiler's work, which may crash.
        Only the main thread ends the process; elsewhere this does nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        if self._number is not None:
            signal.signal(self._number, signal.SIG_DFL)
            signal.raise_signal(self._number)
            os._exit(_SIGNALLED + self._number)  # the first process of a container survives it
        os._exit(START_FAILED)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        # A handler may interrupt any line of Python; the loop runs it at a safe place.
        self._loop.call_soon_threadsafe(self._begin, number)

    def _begin(self, number: int) -> None:
        if self._task is None:
            self._number = number
            self._task = asyncio.create_task(self._drain(number))
        else:
            self._hurry.set()

    async def _drain(self, number: int) -> None:
        deadline = self._loop.time() + self._seconds
        logger.info("shutting down: running requests have %g s to finish", self._seconds)
        drained = asyncio.create_task(self._engines.drain(self._seconds))
        hurried = asyncio.create_task(self._hurry.wait())
        await asyncio.wait({drained, hurried}, return_when=asyncio.FIRST_COMPLETED)
        if self._hurry.is_set():
            deadline = self._loop.time()
        drained.cancel()
        hurried.cancel()
        await self._engines.stop()
        self.uninstall()
        signal.raise_signal(number)
        # A client that does not read what it asked for would hold uvicorn up for ever. SIGINT
        # after another signal makes it leave at once.
        patience = max(deadline - self._loop.time(), _LAST_WORDS_SECONDS)
        self._loop.call_later(patience, signal.raise_signal, signal.SIGINT)
