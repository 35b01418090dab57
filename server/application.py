"""Builds the ASGI app from its parts."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path

from fastapi import Depends, FastAPI
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Info,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.registry import Collector

from causalrn.model.backends.registry import BACKENDS
from causalrn.model.checkpoint import load_checkpoint
from causalrn.model.device import DeviceError, backend_for
from causalrn.server import __version__
from causalrn.server.api.accounts import SettleAccounts, require_key
from causalrn.server.api.openapi import KEY_ERRORS, OPENAI_KEY_ERRORS, DocumentedApp
from causalrn.server.api.routes import (
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
from causalrn.server.auth.access import Access
from causalrn.server.auth.api_keys import load_keys
from causalrn.server.draining import SignalDrain
from causalrn.server.engine.engines import Engines
from causalrn.server.engine.metrics import ModelCollector
from causalrn.server.engine.served_model import ServedModel
from causalrn.server.environment import settings_of_environment
from causalrn.server.errors import StartupError
from causalrn.server.http.answers import Answers
from causalrn.server.http.body_room import BodyRoom
from causalrn.server.http.connection_guard import GuardedApp
from causalrn.server.http.cors import Cors
from causalrn.server.http.cross_site import CrossSite
from causalrn.server.http.error_handlers import install_error_handlers
from causalrn.server.http.failures import AnswerFailures
from causalrn.server.http.head_limits import HeadLimits
from causalrn.server.http.head_method import HeadAsGet
from causalrn.server.http.hosts import Hosts
from causalrn.server.http.note_answers import NoteAnswers
from causalrn.server.http.request_id import RequestIdMiddleware
from causalrn.server.http.secure_headers import SecureHeaders
from causalrn.server.log import format_uvicorn, show_log
from causalrn.server.sessions.sessions import Sessions
from causalrn.server.sessions.store.open_store import open_store
from causalrn.server.sessions.upkeep import LEASE_SECONDS
from causalrn.server.settings import LogFormat, Settings
from causalrn.server.start import Start, StartGate
from causalrn.server.startup_errors import ShortStartupErrors

logger = logging.getLogger(__name__)

_BODIES_AT_ONCE = 16  # of the largest size, on their way in


class _App(GuardedApp, DocumentedApp):
    pass


def create_app(
    settings: Settings | None = None,
    *,
    load: Callable[[Path], ServedModel] | None = None,
) -> FastAPI:
    """Build an app. Nothing is read or loaded before it starts.

    Args:
        settings: of the server; by default those of the environment.
        load: turns the path of a checkpoint into a model; by default as the settings say.
    """
    # Already here: uvicorn writes its first lines before the app starts.
    format_uvicorn(_log_format() if settings is None else settings.log_format)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Answers]]:
        chosen = settings or settings_of_environment()
        show_log(chosen)
        app.state.access = _open_access(chosen)
        device = _backend_for(chosen)
        read = partial(load_checkpoint, backend=device, pool_dtype=chosen.pool_dtype)
        engines = Engines(chosen, load or read)
        store = open_store(chosen.session_store, lease_seconds=LEASE_SECONDS)
        sessions = Sessions(engines, store, chosen)
        answers = Answers()
        app.state.settings, app.state.engines, app.state.sessions = chosen, engines, sessions
        app.state.body_room = BodyRoom(_BODIES_AT_ONCE * chosen.max_body_bytes)
        app.state.registry = _registry(device, answers, ModelCollector(lambda: engines.metrics))
        drain = SignalDrain(engines, chosen.drain_seconds)
        start = app.state.start = Start(engines)
        backend = BACKENDS.find(device)()
        backend.start(start.report, in_a_hurry=True)  # here: models are loaded on other threads
        try:
            await sessions.start()  # first: another process may have the store
            drain.install()
            start.begin(app.state.listening)
            yield {"answers": answers}  # the state of every request, and of every connection
        finally:
            drain.uninstall()
            await engines.stop()
            await start.stop()
            await sessions.stop()
            if engines.are_building or backend.is_compiling:
                drain.leave()

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
        HeadAsGet,
        SettleAccounts,
        CrossSite,
        Hosts,
        StartGate,
        HeadLimits,
        AnswerFailures,
        Cors,
        SecureHeaders,
        NoteAnswers,
        RequestIdMiddleware,
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


def _backend_for(settings: Settings) -> str:
    try:
        return backend_for(settings.device)
    except DeviceError as error:
        raise StartupError(f"CAUSALRN_DEVICE is {settings.device}: {error}") from None


def _registry(backend: str, *collectors: Collector) -> CollectorRegistry:
    """What Prometheus is told: the backend, these figures, and those of the process."""
    registry = CollectorRegistry()
    for of_process in (ProcessCollector, PlatformCollector, GCCollector):
        of_process(registry=registry)
    build = Info("causalrn_build", "Versions of what runs.", registry=registry)
    build.info({"version": __version__, "torch": version("torch"), "backend": backend})
    for collector in collectors:
        registry.register(collector)
    return registry


def _log_format() -> LogFormat:
    """Of the environment; if that has errors, the start will name them."""
    try:
        return settings_of_environment().log_format
    except StartupError:
        return "text"
