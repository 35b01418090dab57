"""Keeps the pages of other sites from changing anything."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from causalrn.server.errors import CrossSiteError
from causalrn.server.http.errors import error_response
from causalrn.server.settings import Settings

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")  # they change nothing


class CrossSite:
    """Refuses changes that a page of another site asks for, if the settings do not name its origin.

    Without that, CORS only keeps the page from reading the answer: what a form could send, such as
    a `POST` without a body, browsers send for any page, and say so.

    Args:
        app: what this wraps.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] in _SAFE_METHODS or _is_welcome(scope):
            await self.app(scope, receive, send)
            return
        error = CrossSiteError(
            "a page of another site may change nothing here, unless CAUSALRN_CORS_ORIGINS names "
            "its origin"
        )
        await error_response(scope, error)(scope, receive, send)


def _is_welcome(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    settings: Settings = scope["app"].state.settings
    origins = settings.cors_origins
    is_cross_site = headers.get("sec-fetch-site", "").lower() == "cross-site"
    return not is_cross_site or "*" in origins or headers.get("origin", "") in origins
