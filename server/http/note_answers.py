"""Notes every answer that an app gives."""

import logging
import time
from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from causalrn.server.http.answers import Answer, Answers

logger = logging.getLogger(__name__)

CLIENT_LEFT = 499  # as other servers log it; nobody is left to read it


class NoteAnswers:
    """Notes what becomes of every request, in the `Answers` of the lifespan's state.

    `causalrn.server.http.errors` leaves the reason of an error in the state of the request.

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
        began = time.monotonic()
        noted = False

        def note(status: int) -> None:
            nonlocal noted
            noted = True
            state = scope["state"]
            reason, param = state.get("error", ("", None))
            answers: Answers = state["answers"]
            answers.note(
                Answer(
                    client=address(scope["client"]),
                    method=scope["method"],
                    path=scope["raw_path"].decode("ascii", "backslashreplace"),
                    route=getattr(scope.get("route"), "path", ""),
                    status=status,
                    reason=reason,
                    param=param or "",
                    seconds=time.monotonic() - began,
                    request_id=state["request_id"],
                    failure=state.get("failure"),
                )
            )

        def note_and_send(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                note(message["status"])
            return send(message)

        try:
            await self.app(scope, receive, note_and_send)
        except Exception:
            if noted:  # and counted; the server logs the exception itself
                logger.error("the answer to request %s broke off", scope["state"]["request_id"])
            raise
        finally:
            if not noted:
                note(CLIENT_LEFT)


def address(client: tuple[str, int] | None) -> str:
    """The address of a client as text; over a Unix socket it has none."""
    return f"{client[0]}:{client[1]}" if client else "a local socket"
