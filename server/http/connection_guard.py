"""Has uvicorn use `GuardedProtocol`, however it was started, and tell when it listens."""

import asyncio
import contextlib
import inspect
import logging
import resource
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from causalrn.server.http.protocol import GuardedProtocol

logger = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 75
"""How long an idle connection is kept, unless uvicorn is told otherwise.

uvicorn's own 5 seconds are also those after which common clients give a connection up. Where the
server is the first, it hangs up in the middle of the client's next request.
"""

_EVERYWHERE = "::"  # of IPv6 alone, for uvicorn; no host is every host, of IPv4 as well
_DEFAULT_KEEP_ALIVE = inspect.signature(uvicorn.Config).parameters["timeout_keep_alive"].default


class GuardedApp(FastAPI):
    """Changes the configuration of the uvicorn that runs it, when its start-up is complete.

    uvicorn takes its protocol from the option `--http`, and gives an app no way to name one. A
    server started without it would have no limits. But uvicorn listens only after the app has
    started, with the class that its configuration then names; and the `receive` of that start-up is
    a method of an object that holds the configuration. A middleware would come too late for that:
    FastAPI wraps `receive` first.

    Its `state.listening` is an event that is set once uvicorn listens. What takes long can wait for
    it, so that a port in use is told before.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on; change the configuration when the start-up is complete."""
        if scope["type"] != "lifespan":
            await super().__call__(scope, receive, send)
            return
        listening = self.state.listening = asyncio.Event()

        async def guard_then_send(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                _guard(receive, listening)
            await send(message)

        await super().__call__(scope, receive, guard_then_send)


def _guard(receive: Receive, listening: asyncio.Event) -> None:
    config = getattr(getattr(receive, "__self__", None), "config", None)
    if not isinstance(config, uvicorn.Config):
        listening.set()  # who knows
    else:
        _tell_when_listening(config, listening)
        _limit_connections(config)
        if config.host == _EVERYWHERE:
            config.host = ""
        if config.http_protocol_class is HttpToolsProtocol:
            config.http_protocol_class = GuardedProtocol
        if issubclass(config.http_protocol_class, GuardedProtocol):
            return
    logger.warning(
        "nothing limits the size of a request's head or the time that it takes: run the server "
        "with uvicorn and its httptools protocol, or behind a proxy that does (docs/security.md)"
    )


def _tell_when_listening(config: uvicorn.Config, listening: asyncio.Event) -> None:
    """uvicorn calls `callback_notify` for the first time when it listens."""
    notify = config.callback_notify

    async def tell() -> None:
        listening.set()
        if notify is not None:
            await notify()

    config.callback_notify = tell


def _limit_connections(config: uvicorn.Config) -> None:
    """Keep idle connections for long, and refuse requests before there is no file left for more.

    Whoever connects when the process may open no more files is hung up on without a word.
    """
    if config.timeout_keep_alive == _DEFAULT_KEEP_ALIVE:
        config.timeout_keep_alive = KEEP_ALIVE_SECONDS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS allows less than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    if soft == resource.RLIM_INFINITY:
        return
    n_free = soft - len(list(Path("/dev/fd").iterdir()))
    n_most = max(1, n_free * 3 // 4)  # the others: files of the server, and those that are refused
    config.limit_concurrency = min(config.limit_concurrency or n_most, n_most)
