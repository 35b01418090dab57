"""`HEAD` wherever there is `GET`."""

from starlette.types import ASGIApp, Receive, Scope, Send


class HeadAsGet:
    """Has the app answer `HEAD` as it would answer `GET`; the server then leaves out the body.

    Args:
        app: what this wraps.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # a copy: uvicorn goes by its own
        await self.app(scope, receive, send)
