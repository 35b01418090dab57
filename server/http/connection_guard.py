"""Has uvicorn use `GuardedProtocol`, however it was started."""

import logging

import uvicorn
from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.http.protocol import GuardedProtocol

logger = logging.getLogger(__name__)


class GuardedApp(FastAPI):
    """Puts `GuardedProtocol` in the place of the class that it extends.

    uvicorn takes its protocol from the option `--http`, and gives an app no way to name one. A
    server started without it would have no limits. But uvicorn listens only after the app has
    started, with the class that its configuration then names; and the `receive` of that start-up is
    a method of an object that holds the configuration. A middleware would come too late for that:
    FastAPI wraps `receive` first.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on; replace the protocol when the start-up is complete."""

        async def guard_then_send(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                _guard(receive)
            await send(message)

        is_lifespan = scope["type"] == "lifespan"
        await super().__call__(scope, receive, guard_then_send if is_lifespan else send)


def _guard(receive: Receive) -> None:
    config = getattr(getattr(receive, "__self__", None), "config", None)
    if isinstance(config, uvicorn.Config):
        if config.http_protocol_class is HttpToolsProtocol:
            config.http_protocol_class = GuardedProtocol
        if issubclass(config.http_protocol_class, GuardedProtocol):
            return
    logger.warning(
        "nothing limits the size of a request's head or the time that it takes: run the server "
        "with uvicorn and its httptools protocol, or behind a proxy that does (docs/security.md)"
    )
