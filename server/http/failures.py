"""An answer to every exception that nothing else has handled."""

from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from causalrn.server.errors import ServiceError
from causalrn.server.http.errors import error_response


class AnswerFailures:
    """Turns exceptions that nothing else has handled into a 500, in the shape of all errors.

    `NoteAnswers` finds the exception in the state of the request and logs it.

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
        started = False

        def note_start(message: Message) -> Awaitable[None]:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            return send(message)

        try:
            await self.app(scope, receive, note_start)
        except Exception as error:
            if started:
                raise  # too late for a status; the server closes the connection
            scope["state"]["failure"] = error
            failure = ServiceError("the server failed; its log has the reason")
            await error_response(scope, failure)(scope, receive, send)
