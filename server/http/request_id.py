"""An id for every request, and an answer to every exception."""

import logging
import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import ServiceError
from server.http.errors import error_response

logger = logging.getLogger(__name__)

_HEADER = "x-request-id"
_VALID = re.compile(r"[A-Za-z0-9._:+/=@-]{1,128}")


class RequestIdMiddleware:
    """Takes `x-request-id` from the client, or makes one, and echoes it on every response.

    An id that is not 1 to 128 harmless characters is replaced. Exceptions that nothing else has
    handled become a 500 here, in the shape of all errors.

    Args:
        app: what this wraps.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get(_HEADER, "")
        request_id = given if _VALID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)[_HEADER] = request_id
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception:
            if started:
                raise  # too late for a status; the server closes the connection
            logger.exception("request %s failed", request_id)
            failure = ServiceError("the server failed; its log has the reason")
            await error_response(scope, failure)(scope, receive, send_with_id)
