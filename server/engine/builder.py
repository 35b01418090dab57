"""Builds engines, each on a thread that nothing waits for when the server ends."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from causalrn.server.engine.engine import Engine
from causalrn.server.engine.served_model import ServedModel
from causalrn.server.engine.turnstile import Turnstile
from causalrn.server.errors import ShuttingDownError
from causalrn.server.settings import Settings


class Builder:
    """Loads models and warms them up, one at a time, to spare memory and cores.

    A build may compile for a minute, and no thread can be stopped while it does. So whoever waits
    for a build is told when the server stops, and the thread is left to itself.

    Args:
        load: turns the path of a checkpoint into a model, on any thread.
        settings: of the server.
        turnstile: that all engines share.
    """

    def __init__(
        self, load: Callable[[Path], ServedModel], settings: Settings, turnstile: Turnstile
    ) -> None:
        self._load = load
        self._settings = settings
        self._turnstile = turnstile
        self._lock = asyncio.Lock()
        self._thread: threading.Thread | None = None
        self._engine: asyncio.Future[Engine] | None = None
        self._stopped = False

    @property
    def is_busy(self) -> bool:
        """Whether a thread is building, if only for nobody any more."""
        return self._thread is not None and self._thread.is_alive()

    async def build(self, path: Path) -> Engine:
        """Load a checkpoint, and make its engine, which is not started yet.

        Raises:
            CheckpointError: it cannot be loaded.
            StartupError: the memory pool is too small to hold anything.
            ShuttingDownError: the server is about to end.
        """
        async with self._lock:
            if self._stopped:
                raise ShuttingDownError("the server is shutting down")
            self._engine = asyncio.get_running_loop().create_future()
            self._thread = threading.Thread(
                target=self._work, args=(path, self._engine), name=f"build {path.name}", daemon=True
            )
            self._thread.start()
            try:
                return await self._engine
            finally:
                self._engine = None  # whose memory is freed when the model is unloaded

    def stop(self) -> None:
        """Build no more, and let nobody wait any longer; idempotent."""
        self._stopped = True
        if self._engine is not None and not self._engine.done():
            self._engine.set_exception(ShuttingDownError("the server is shutting down"))

    def _work(self, path: Path, future: "asyncio.Future[Engine]") -> None:
        try:
            engine = Engine(self._load(path), self._settings, self._turnstile)
            settle = partial(_settle, future, future.set_result, engine)
            del engine
        except BaseException as error:
            settle = partial(_settle, future, future.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is there
            future.get_loop().call_soon_threadsafe(settle)
        del settle, future  # an error refers to this frame, and so to all that it knows


def _settle(future: "asyncio.Future[Engine]", settle: Callable[[Any], None], result: Any) -> None:
    if not future.done():
        settle(result)
