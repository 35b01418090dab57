"""One engine for each model that is served, loaded and unloaded while the others run."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from causalrn.model.checkpoint import CheckpointError
from causalrn.server.engine.builder import Builder
from causalrn.server.engine.checkpoint_folders import CheckpointFolders
from causalrn.server.engine.engine import Engine
from causalrn.server.engine.metrics import Metrics
from causalrn.server.engine.model_info import ModelInfo
from causalrn.server.engine.pooled_sessions import PooledSessions
from causalrn.server.engine.served_model import ServedModel
from causalrn.server.engine.turnstile import Turnstile
from causalrn.server.errors import (
    DefaultModelError,
    ModelLoadError,
    ModelNotFoundError,
    NotReadyError,
    ShuttingDownError,
    StartupError,
)
from causalrn.server.printable import LONGEST_ECHO, printable
from causalrn.server.settings import Settings

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class Engines:
    """The engines of a server, by the names of their models. Belongs to one event loop's thread.

    Args:
        settings: of the server; each engine gets a pool and a queue of its own, as large as these
            say.
        load: turns the path of a checkpoint into a model, on any thread.
    """

    def __init__(self, settings: Settings, load: Callable[[Path], ServedModel]) -> None:
        self._settings = settings
        self._folders = CheckpointFolders(settings.checkpoint, settings.model_folder)
        self._turnstile = Turnstile()
        self._builder = Builder(load, settings, self._turnstile)
        self._engines: dict[str, Engine] = {}
        self._leaving: dict[str, Engine] = {}
        self._failures: dict[str, str] = {}
        self._changes: dict[str, asyncio.Task[Any]] = {}  # one at a time for each name
        self._partings: list[Callable[[Engine], Awaitable[None]]] = []
        self._closing = False

    def __iter__(self) -> Iterator[Engine]:
        """The engines that take requests, the default one first."""
        return iter(list(self._engines.values()))

    @property
    def default(self) -> Engine:
        """The engine that serves requests which name no model."""
        return next(iter(self._engines.values()))

    @property
    def are_building(self) -> bool:
        """Whether a model is being loaded, if only for nobody any more."""
        return self._builder.is_busy

    @property
    def metrics(self) -> list[Metrics]:
        """The figures of every model in memory."""
        return [engine.metrics for engine in (*self._engines.values(), *self._leaving.values())]

    def get(self, name: str | None) -> Engine:
        """The engine of a model, or that of the default one.

        Raises:
            ModelNotFoundError: no model of this name is served.
        """
        if name is None:
            return self.default
        try:
            return self._engines[name]
        except KeyError:
            raise ModelNotFoundError(
                f"there is no model '{printable(name, LONGEST_ECHO)}'; "
                f"this server has {', '.join(self._engines)}",
                param="model",
            ) from None

    def serves(self, engine: Engine) -> bool:
        """Whether an engine still takes requests."""
        return self._engines.get(engine.model.name) is engine

    async def call(
        self,
        engine: Engine,
        work: Callable[Concatenate[PooledSessions, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T | None:
        """Like `Engine.call`, but None if the engine is unloaded meanwhile.

        Raises:
            NotReadyError: an engine that is still served does not run, or is stuck.
        """
        try:
            return await engine.call(work, *args, **kwargs)
        except NotReadyError:
            if self.serves(engine):
                raise
            return None

    def at_parting(self, work: Callable[[Engine], Awaitable[None]]) -> None:
        """Have `work` called with every engine that is unloaded, after it has stopped."""
        self._partings.append(work)

    async def start(self) -> None:
        """Load what is configured.

        Raises:
            StartupError: the default model cannot be loaded. Without any other, the server goes on.
            ShuttingDownError: `stop` was called first.
        """
        (_, default), *others = self._folders.configured.items()
        try:
            self._serve(await self._builder.build(default))
        except CheckpointError as error:
            raise StartupError(
                f"cannot load the checkpoint: {error}. Set CAUSALRN_CHECKPOINT to a checkpoint's "
                "folder"
            ) from None
        for name, path in others:
            try:
                await self._load(name, path)
            except ModelLoadError as error:
                logger.error("the server goes on without %s: %s", name, error.message)

    async def overview(self) -> list[ModelInfo]:
        """Every checkpoint that is served or could be, the default one first."""
        known = await asyncio.to_thread(self._folders.find)
        names = [*self._engines, *sorted(known.keys() - self._engines.keys())]
        return [self._describe(name) for name in names]

    async def load(self, name: str) -> tuple[ModelInfo, bool]:
        """Load a checkpoint and serve it, unless it is served already; others are served meanwhile.

        Returns:
            What is known of it now, and whether it was loaded just now.

        Raises:
            ModelNotFoundError: there is no such checkpoint.
            ModelLoadError: it cannot be served; nothing is left of the attempt.
            ShuttingDownError: the server is about to end.
        """
        known = await asyncio.to_thread(self._folders.find)
        if name not in known:
            raise ModelNotFoundError(
                f"there is no checkpoint '{printable(name, LONGEST_ECHO)}' to load; there are "
                f"{', '.join(sorted(known))}"
            )
        await self._settled(name)
        if name in self._engines:
            return self._describe(name), False
        await self._change(name, self._load(name, known[name]))
        return self._describe(name), True

    async def unload(self, name: str) -> None:
        """Stop serving a model: refuse new requests at once, and let running ones finish.

        Requests that do not finish within `drain_seconds` end with an error. Sessions become cold.

        Raises:
            ModelNotFoundError: it is not served.
            DefaultModelError: it is the default model.
        """
        await self._settled(name)
        engine = self.get(name)
        if engine is self.default:
            raise DefaultModelError(
                f"{name} is the default model, which is served as long as the server runs"
            )
        self._leaving[name] = self._engines.pop(name)
        del engine
        await self._change(name, self._unload(name))

    def check_ready(self) -> None:
        """Return if requests for every model can be served now.

        Raises:
            ShuttingDownError: no new requests are taken any more.
            NotReadyError: an engine is dead or stuck.
        """
        problems = []
        for engine in self:
            try:
                engine.check_ready()
            except NotReadyError as error:
                problems.append(error.message)
        held = self._turnstile.seconds_held()
        if not problems and self.default.is_too_long(held):  # by an engine that was unloaded
            problems.append(f"a step of {self._turnstile.holder} has not ended for {held:.0f} s")
        if problems:
            raise NotReadyError("; ".join(problems))

    async def drain(self, seconds: float) -> None:
        """Take no new requests, and wait until the others are finished or the time is over."""
        self._closing = True
        await asyncio.gather(
            *(engine.drain(seconds) for engine in self),
            *(engine.drain(seconds, unloading=True) for engine in self._leaving.values()),
        )

    async def stop(self) -> None:
        """Fail what is not finished and end every engine; idempotent.

        A thread that loads a model cannot be ended: see `are_building`.
        """
        self._closing = True
        self._builder.stop()
        await asyncio.gather(*(engine.stop() for engine in (*self, *self._leaving.values())))
        await asyncio.gather(*self._changes.values(), return_exceptions=True)

    def _describe(self, name: str) -> ModelInfo:
        if (engine := self._engines.get(name)) is not None:
            return ModelInfo(name, "serving", engine is self.default, engine.model.fingerprint)
        if (engine := self._leaving.get(name)) is not None:
            return ModelInfo(name, "unloading", fingerprint=engine.model.fingerprint)
        if name in self._changes:
            return ModelInfo(name, "loading")
        if (error := self._failures.get(name)) is not None:
            return ModelInfo(name, "failed", error=error)
        return ModelInfo(name, "available")

    async def _settled(self, name: str) -> None:
        """Return when a model is neither being loaded nor unloaded."""
        while (change := self._changes.get(name)) is not None:
            await asyncio.wait([change])

    async def _change(self, name: str, work: Coroutine[Any, Any, T]) -> T:
        """Finish loading or unloading a model even if whoever waits for it is cancelled."""
        task = self._changes[name] = asyncio.create_task(work)
        task.add_done_callback(lambda _: self._changes.pop(name))
        return await asyncio.shield(task)

    async def _load(self, name: str, path: Path) -> None:
        self._check_open()
        try:
            engine = await self._builder.build(path)
        except ShuttingDownError:
            raise
        except (CheckpointError, StartupError) as error:
            reason = str(error)
        except Exception as error:
            logger.exception("loading %s failed", name)
            reason = f"{type(error).__name__}: {error}"
        else:
            self._check_open()
            self._failures.pop(name, None)
            self._serve(engine)
            return
        self._failures[name] = reason
        raise ModelLoadError(f"{name} cannot be served: {reason}")

    def _serve(self, engine: Engine) -> None:
        engine.start()
        self._engines[engine.model.name] = engine
        logger.info(
            "serving %s (%.12s): a pool of %d tokens, %d requests at once",
            engine.model.name,
            engine.model.fingerprint,
            engine.pool_pages * self._settings.page_size,
            self._settings.max_running,
        )

    async def _unload(self, name: str) -> None:
        try:
            await self._part(self._leaving[name])
        finally:
            del self._leaving[name]
        logger.info("%s is unloaded", name)

    async def _part(self, engine: Engine) -> None:
        await engine.drain(self._settings.drain_seconds, unloading=True)
        await engine.stop()
        for work in self._partings:
            await work(engine)

    def _check_open(self) -> None:
        if self._closing:
            raise ShuttingDownError("the server is shutting down")
