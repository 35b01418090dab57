"""Engines that run for the length of a block, without HTTP."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from causalrn.server.engine.engine import Engine
from causalrn.server.engine.engines import Engines
from causalrn.server.engine.token_stream import TokenStream
from causalrn.server.errors import NotReadyError
from causalrn.server.settings import Settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import is_idle
from tests.server.shelf import Shelf


@asynccontextmanager
async def running(model: FakeModel, settings: Settings) -> AsyncIterator[Engine]:
    """An engine of one model, with which nothing may be left at the end."""
    engine = Engine(model, settings)
    engine.start()
    try:
        yield engine
    finally:
        await engine.stop()
        assert is_idle(engine)
        assert model.decoder.misuses == []


@asynccontextmanager
async def running_engines(shelf: Shelf, settings: Settings) -> AsyncIterator[Engines]:
    """Engines for the checkpoints of a shelf, with which nothing may be left at the end."""
    engines = Engines(settings, shelf)
    await engines.start()
    try:
        yield engines
    finally:
        await engines.stop()
        assert all(map(is_idle, engines))
        assert all(not model.decoder.misuses for model in shelf.models.values())
        assert {"loading", "unloading"}.isdisjoint((await statuses(engines)).values())


async def statuses(engines: Engines) -> dict[str, str]:
    """The status of every checkpoint, by name."""
    return {info.name: info.status for info in await engines.overview()}


async def until_status(engines: Engines, name: str, status: str) -> None:
    """Wait for a checkpoint to have a status, and fail if it never does."""
    async with asyncio.timeout(20):
        while (await statuses(engines))[name] != status:  # noqa: ASYNC110  # of another task
            await asyncio.sleep(0.001)


def is_ready(engines: Engines) -> bool:
    """Whether every engine can serve requests now."""
    try:
        engines.check_ready()
    except NotReadyError:
        return False
    return True


async def read(stream: TokenStream) -> str:
    """The whole text of a stream."""
    async with stream:
        return "".join([delta.text async for delta in stream])


async def until(holds: Callable[[], Any]) -> None:
    """Wait for something to hold, which happens on another thread, and fail if it never does."""
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110  # see above
            await asyncio.sleep(0.001)


def engine_threads() -> list[str]:
    """The names of all threads of engines, here and of other tests."""
    return [one.name for one in threading.enumerate() if one.name.startswith("engine ")]
