"""The ASGI app: `uvicorn server.app:app`."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from pydantic import ValidationError

from model.checkpoint import load_checkpoint
from model.ops import jit
from server import __version__
from server.draining import SignalDrain
from server.errors import StartupError, install_handlers
from server.models import Models
from server.request_id import RequestIdMiddleware
from server.routes import admin, generate, health, info, metrics, sessions, snapshots
from server.served_model import ServedModel
from server.session_store import open_store
from server.sessions import LEASE_SECONDS, Sessions
from server.settings import Settings
from server.startup import ShortStartupErrors

logger = logging.getLogger(__name__)


def create_app(
    settings: Settings | None = None,
    *,
    load: Callable[[Path], ServedModel] = load_checkpoint,
) -> FastAPI:
    """Build an app. Nothing is read or loaded before it starts.

    Args:
        settings: by default those of the environment.
        load: turns the path of a checkpoint into a model.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        chosen = settings or _settings_of_environment()
        _show_log(chosen.log_level)
        models = Models(chosen, load)
        store = open_store(chosen.session_store, lease_seconds=LEASE_SECONDS)
        sessions = Sessions(models, store, chosen)
        app.state.settings, app.state.models, app.state.sessions = chosen, models, sessions
        # Asking starts the threads of the kernels. Models are loaded on other threads than this,
        # and a process in which TBB was started by another than the main one never ends.
        jit.num_threads()
        await models.start()
        await sessions.start()
        drain = SignalDrain(models, chosen.drain_seconds)
        drain.install()
        try:
            yield
        finally:
            drain.uninstall()
            await models.stop()
            await sessions.stop()

    app = FastAPI(
        title="CausalRN",
        version=__version__,
        summary="Copies any text out of a recurrent memory pool, token by token.",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    install_handlers(app)
    app.add_middleware(RequestIdMiddleware)
    app.add_middleware(ShortStartupErrors)
    app.state.routers = [
        routes.router for routes in (generate, sessions, snapshots, admin, health, info, metrics)
    ]
    for router in app.state.routers:
        app.include_router(router)
    return app


def _settings_of_environment() -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(["CAUSALRN", *(str(part).upper() for part in first["loc"])])
        raise StartupError(f"{name}: {first['msg']}") from None


def _show_log(level: str) -> None:
    """Write the server's log lines to standard error, unless logging is set up already."""
    log = logging.getLogger("server")
    log.setLevel(level)
    if not log.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        log.addHandler(handler)


app = create_app()
