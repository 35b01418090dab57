"""How a failed start is reported."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from causalrn.server.errors import StartupError


class ShortStartupErrors:
    """Reports a `StartupError` by its message alone; Starlette would report a whole traceback.

    Args:
        app: what this wraps.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything through, and shorten the message of a start that failed."""
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return
        failure: Message | None = None

        async def hold_failure(message: Message) -> None:
            nonlocal failure
            if message["type"] == "lifespan.startup.failed":
                failure = message
            else:
                await send(message)

        try:
            await self.app(scope, receive, hold_failure)
        except BaseException as error:
            if failure is not None:
                if isinstance(error, StartupError):
                    failure = {**failure, "message": str(error)}
                await send(failure)
            raise
