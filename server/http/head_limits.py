"""Limits on the head of a request, which is all that comes before its body.

Heads that have arrived are checked here, whatever server runs the app.
`causalrn.server.http.protocol` limits those that never end.
"""

from typing import cast

from starlette.types import ASGIApp, Receive, Scope, Send

from causalrn.server.errors import HeadersTooLargeError, ServiceError, UrlTooLongError
from causalrn.server.http.errors import error_response

MAX_URL_BYTES = 8 * 1024
MAX_HEADERS = 100
MAX_HEADER_BYTES = 32 * 1024  # of names and values together
MAX_HEAD_BYTES = MAX_URL_BYTES + MAX_HEADER_BYTES + 1024  # the rest is what separates them


class HeadLimits:
    """Refuses requests that have too long a URL, or too many or too large headers.

    And those for which `GuardedProtocol` left a `refusal` in their state.

    Args:
        app: what this wraps.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        error = _fault(scope) if scope["type"] == "http" else None
        if error is None:
            await self.app(scope, receive, send)
        else:
            await error_response(scope, error)(scope, receive, send)


def _fault(scope: Scope) -> ServiceError | None:
    if (refusal := scope["state"].get("refusal")) is not None:
        return cast(ServiceError, refusal)
    if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_URL_BYTES:
        return UrlTooLongError(f"the URL is longer than the limit of {MAX_URL_BYTES} bytes")
    headers = scope["headers"]
    if len(headers) > MAX_HEADERS:
        return HeadersTooLargeError(
            f"the request has {len(headers)} headers, the limit is {MAX_HEADERS}"
        )
    if sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_BYTES:
        return HeadersTooLargeError(
            f"the headers are larger than the limit of {MAX_HEADER_BYTES} bytes"
        )
    return None
