"""Opens an account for every request before its route does anything, and settles it at the end."""

from collections.abc import Awaitable
from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from causalrn.server.auth.access import Access, Account

_bearer = HTTPBearer(
    auto_error=False, scheme_name="key", description="An API key, if the server has any."
)


def enter(request: HTTPConnection) -> Account:
    """Let a request in, at most once: find its account, and count it.

    Before this, only the head of a request may be read.

    Raises:
        UnauthorizedError: it has no key, or an unknown one.
        RateLimitedError: a quota of its key is used up.
    """
    account = getattr(request.state, "account", None)
    if account is None:
        access = cast(Access, request.app.state.access)
        account = access.identify(request.headers.getlist("authorization"))
        request.state.account = account  # before it may be refused, as the headers need it
        account.open()
    return cast(Account, account)


async def _account(request: Request, _: Annotated[object, Depends(_bearer)]) -> Account:
    return enter(request)


AccountDependency = Annotated[Account, Depends(_account)]
"""The account of the request, which has been let in."""


async def require_key(_: AccountDependency) -> None:
    """Let a request in that has a key, or any request if the server has no keys.

    Raises:
        UnauthorizedError, RateLimitedError: see `enter`.
    """


async def require_admin(account: AccountDependency) -> None:
    """Let a request in that has an admin's key, and none if the server has no keys.

    Raises:
        UnauthorizedError, RateLimitedError: see `enter`.
        ForbiddenError: the key is not an admin's.
    """
    account.require_admin()


class SettleAccounts:
    """Settles the account of every request when it is over, whatever ends it.

    Also adds headers with what is left of the key's quotas.

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
        state = scope.setdefault("state", {})

        def send_with_quotas(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start" and "account" in state:
                MutableHeaders(scope=message).update(state["account"].headers())
            return send(message)

        try:
            await self.app(scope, receive, send_with_quotas)
        finally:
            if "account" in state:
                state["account"].close()
