"""Which pages may use the server from a browser."""

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from causalrn.server.settings import Settings

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
_EXPOSED = (
    "location",
    "retry-after",
    "x-request-id",
    "x-should-retry",
    *(
        f"x-ratelimit-{what}-{of}"
        for what in ("limit", "remaining", "reset")
        for of in ("requests", "tokens")
    ),
)


class Cors:
    """Starlette's middleware, with the origins of the settings; nothing if there are none.

    The settings are known only when the app starts, but Starlette's middleware needs them earlier.
    Cookies play
    no part: what opens the server is a key, which a page has to send on purpose.

    Args:
        app: what this wraps.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._cors: CORSMiddleware | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        settings: Settings = scope["app"].state.settings
        if settings.cors_origins and self._cors is None:
            self._cors = CORSMiddleware(
                self.app,
                allow_origins=settings.cors_origins,
                allow_methods=_METHODS,
                allow_headers=("*",),
                expose_headers=_EXPOSED,
            )
        await (self._cors or self.app)(scope, receive, send)
