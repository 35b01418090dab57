"""The ASGI app: `uvicorn server.app:app`."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import Depends, FastAPI

from model.backends.registry import BACKENDS, DEFAULT
from model.checkpoint import load_checkpoint
from server import __version__
from server.api.accounts import SettleAccounts, require_key
from server.api.openapi import KEY_ERRORS, OPENAI_KEY_ERRORS, DocumentedApp
from server.api.routes import (
    admin,
    completions,
    docs,
    generate,
    health,
    info,
    metrics,
    model_list,
    sessions,
    snapshots,
    tokenizer,
)
from server.auth.access import Access
from server.auth.api_keys import load_keys
from server.draining import SignalDrain
from server.engine.engines import Engines
from server.engine.served_model import ServedModel
from server.environment import settings_of_environment
from server.http.body_room import BodyRoom
from server.http.connection_guard import GuardedApp
from server.http.cors import Cors
from server.http.error_handlers import install_error_handlers
from server.http.head_limits import HeadLimits
from server.http.request_id import RequestIdMiddleware
from server.http.secure_headers import SecureHeaders
from server.sessions.sessions import Sessions
from server.sessions.store.open_store import open_store
from server.sessions.upkeep import LEASE_SECONDS
from server.settings import Settings
from server.startup import ShortStartupErrors

logger = logging.getLogger(__name__)

_BODIES_AT_ONCE = 16  # of the largest size, on their way in


class _App(GuardedApp, DocumentedApp):
    pass


def create_app(
    settings: Settings | None = None,
    *,
    load: Callable[[Path], ServedModel] = load_checkpoint,
) -> FastAPI:
    """Build an app. Nothing is read or loaded before it starts.

    Args:
        settings: of the server; by default those of the environment.
        load: turns the path of a checkpoint into a model.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        chosen = settings or settings_of_environment()
        _show_log(chosen.log_level)
        app.state.access = _open_access(chosen)
        engines = Engines(chosen, load)
        store = open_store(chosen.session_store, lease_seconds=LEASE_SECONDS)
        sessions = Sessions(engines, store, chosen)
        app.state.settings, app.state.engines, app.state.sessions = chosen, engines, sessions
        app.state.body_room = BodyRoom(_BODIES_AT_ONCE * chosen.max_body_bytes)
        BACKENDS.find(DEFAULT)().start()  # here: models are loaded on other threads
        try:
            await sessions.start()  # first: another process may have the store
            await engines.start()
            drain = SignalDrain(engines, chosen.drain_seconds)
            drain.install()
            try:
                yield
            finally:
                drain.uninstall()
                await engines.stop()
        finally:
            await sessions.stop()

    app = _App(
        title="CausalRN",
        version=__version__,
        summary="Copies any text out of a recurrent memory pool, token by token.",
        lifespan=lifespan,
        redirect_slashes=False,
        openapi_url=None,  # FastAPI would show its pages to anybody; see routes/docs.py
    )
    install_error_handlers(app)
    for middleware in (  # the outermost last
        SettleAccounts,
        HeadLimits,
        RequestIdMiddleware,
        Cors,
        SecureHeaders,
        ShortStartupErrors,
    ):
        app.add_middleware(middleware)
    openai = [routes.router for routes in (completions, model_list)]
    own = [
        routes.router
        for routes in (generate, tokenizer, sessions, snapshots, admin, info, metrics, docs)
    ]
    for routers, errors in ((own, KEY_ERRORS), (openai, OPENAI_KEY_ERRORS)):
        for router in routers:
            app.include_router(router, dependencies=[Depends(require_key)], responses=errors)
    app.include_router(health.router)
    app.state.routers = [*own, *openai, health.router]
    return app


def _open_access(settings: Settings) -> Access:
    text = settings.api_keys
    keys = load_keys(None if text is None else text.get_secret_value(), settings.api_keys_file)
    if not len(keys):
        logger.info("no API keys are set: anybody who can reach this server may use it")
    return Access(keys)


def _show_log(level: str) -> None:
    """Write the server's log lines to standard error, unless logging is set up already."""
    log = logging.getLogger("server")
    log.setLevel(level)
    if not log.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        log.addHandler(handler)


app = create_app()
