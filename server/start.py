"""The start of a server that listens already: its models are loaded, and the rest has to wait."""

import asyncio
import logging
import os
import threading

from starlette.types import ASGIApp, Receive, Scope, Send

from causalrn.model.machine import usable_bytes
from causalrn.server.draining import START_FAILED
from causalrn.server.engine.engines import Engines
from causalrn.server.errors import ShuttingDownError, StartingError, StartupError
from causalrn.server.http.errors import error_response

logger = logging.getLogger(__name__)

# Measured with the smallest pool that is of use, and rounded up.
_SERVING_BYTES = 384 * 2**20
_COMPILING_BYTES = 768 * 2**20
_LIVE = "/health/live"


class Start:
    """Loads the models, while the server answers that it is starting.

    If that fails, the log says why and the process ends.

    Args:
        engines: to start.
    """

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._doing = "loading"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self.is_over = False

    def begin(self, listening: asyncio.Event) -> None:
        """Begin as soon as the server listens; called from the event loop.

        Raises:
            StartupError: there is too little memory.
        """
        _check_memory(_SERVING_BYTES, "serving")
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._run(listening))

    async def stop(self) -> None:
        """Start no more; the engines must have been stopped."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def report(self, doing: str) -> None:
        """Note on any thread that the backend compiles, for the log and for whoever asks.

        With too little memory for that, the start fails before the system kills the process.
        """
        self._doing = doing
        logger.info("%s", doing)
        if not self.is_over and self._loop is not None:
            try:
                _check_memory(_COMPILING_BYTES, "compiling kernels")
            except StartupError as error:
                self._loop.call_soon_threadsafe(self._fail, str(error))

    def check(self) -> None:
        """Return if the start is over.

        Raises:
            StartingError: it is not.
        """
        if not self.is_over:
            raise StartingError(f"the server is starting: {self._doing}")

    async def _run(self, listening: asyncio.Event) -> None:
        await listening.wait()
        try:
            await self._engines.start()
        except ShuttingDownError:
            return
        except StartupError as error:
            self._fail(str(error))
        except Exception:
            logger.exception("a failure that nobody expected")
            self._fail("the server cannot start; its log has the reason")
        else:
            self.is_over = True
            logger.info("ready")

    def _fail(self, reason: str) -> None:
        logger.error("%s", reason)
        if threading.current_thread() is threading.main_thread():
            os._exit(START_FAILED)  # nothing has been done yet that would have to be ended
        self._doing = f"failed, {reason}"  # another program's thread, which goes on


def _check_memory(needed: int, what: str) -> None:
    if (usable := usable_bytes()) < needed:
        raise StartupError(
            f"{what} takes {needed >> 20} MiB of memory, and this process may use "
            f"{usable >> 20} MiB: allow its control group more"
        )


class StartGate:
    """Answers every request but that for liveness with 503 until the start is over.

    Args:
        app: what this wraps; the `Start` is in the state of the whole app.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and scope["path"].removeprefix(scope["root_path"]) != _LIVE:
            try:
                scope["app"].state.start.check()
            except StartingError as error:
                await error_response(scope, error)(scope, receive, send)
                return
        await self.app(scope, receive, send)
