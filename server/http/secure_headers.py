"""Headers that tell browsers to be careful, on every response."""

from collections.abc import Awaitable

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECURE_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    # Matters for requests without CORS only: the headers of CORS decide about the others.
    "cross-origin-resource-policy": "same-origin",
}
"""The headers, which a response may set to something else."""


class SecureHeaders:
    """Adds `SECURE_HEADERS` to every response, except those that it sets itself.

    Args:
        app: what this wraps.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""

        def send_with_headers(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURE_HEADERS.items():
                    headers.setdefault(name, value)
            return send(message)

        await self.app(scope, receive, send_with_headers)
