"""Who may come in: the dependencies `require_key` and `require_admin`, and a request's account."""

from typing import Annotated, Protocol, cast

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from limits.storage import MemoryStorage
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.auth.api_keys import ApiKeys
from server.auth.rate_limits import KeyUsage
from server.errors import ForbiddenError, UnauthorizedError

_bearer = HTTPBearer(
    auto_error=False, scheme_name="key", description="An API key, if the server has any."
)


class Metered(Protocol):
    """What uses tokens; a `TokenStream` does."""

    @property
    def n_prompt_tokens(self) -> int:
        """Tokens that the model reads."""

    @property
    def n_completion_tokens(self) -> int:
        """Tokens generated so far."""


class Account:
    """A request's account with the key that it came with.

    Args:
        usage: of the key; None if the server has no keys.

    Attributes:
        key: what the request may do; None if the server has no keys.
    """

    def __init__(self, usage: KeyUsage | None) -> None:
        self.key = None if usage is None else usage.key
        self._usage = usage
        self._streams: list[Metered] = []
        self._open = False

    @property
    def owner(self) -> str:
        """Whose the sessions are that the request makes: the key's name, or nobody's."""
        return "" if self.key is None else self.key.name

    @property
    def sees(self) -> str | None:
        """The owner of the sessions that the request may see; None if it may see all."""
        return None if self.key is None or self.key.role == "admin" else self.key.name

    @property
    def max_sessions(self) -> int | None:
        """How many sessions the owner may have; None for any number."""
        return None if self.key is None else self.key.max_sessions

    def open(self) -> None:
        """Count the request.

        Raises:
            RateLimitedError: a quota of the key is used up.
        """
        if self._usage is not None:
            self._usage.begin()
            self._open = True

    def meter(self, stream: Metered) -> None:
        """Charge the key for what a generation will have used when the request is over."""
        self._streams.append(stream)

    def close(self) -> None:
        """Settle the account, as the request is over; idempotent."""
        if self._open and self._usage is not None:
            self._open = False
            used = (one.n_prompt_tokens + one.n_completion_tokens for one in self._streams)
            self._usage.end(sum(used))

    def headers(self) -> dict[str, str]:
        """What is left of the key's quotas, as headers of a response."""
        return {} if self._usage is None else self._usage.headers()


class Access:
    """The keys of a server, and what each of them has used.

    Args:
        keys: all of them; without any, everybody may use everything but admin routes.
    """

    def __init__(self, keys: ApiKeys) -> None:
        self._keys = keys
        self._usages: dict[str, KeyUsage] = {}
        if len(keys):
            storage = MemoryStorage()
            self._usages = {key.name: KeyUsage(key, storage) for key in keys}

    def identify(self, request: HTTPConnection) -> Account:
        """The account of a request.

        Raises:
            UnauthorizedError: the server has keys, and the request has none of them.
        """
        if not self._usages:
            return Account(None)
        key = self._keys.find(_secret(request))
        if key is None:
            raise UnauthorizedError("this API key is not known")
        return Account(self._usages[key.name])


def enter(request: HTTPConnection) -> Account:
    """Let a request in, at most once: find its account, and count it.

    Nothing of a request but its head may be read before this.

    Raises:
        UnauthorizedError: it has no key, or an unknown one.
        RateLimitedError: a quota of its key is used up.
    """
    account = getattr(request.state, "account", None)
    if account is None:
        account = cast(Access, request.app.state.access).identify(request)
        request.state.account = account  # also if it is over its quota, for the headers
        account.open()
    return cast(Account, account)


async def _account(request: Request, _: Annotated[object, Depends(_bearer)]) -> Account:
    return enter(request)


AccountDependency = Annotated[Account, Depends(_account)]
"""The account of the request, which has been let in."""


async def require_key(_: AccountDependency) -> None:
    """Let in who has a key, or everybody if the server has none.

    Raises:
        UnauthorizedError, RateLimitedError: see `enter`.
    """


async def require_admin(account: AccountDependency) -> None:
    """Let in who has an admin's key, and nobody if the server has no keys.

    Raises:
        UnauthorizedError, RateLimitedError: see `enter`.
        ForbiddenError: it is another's.
    """
    if account.key is None:
        raise ForbiddenError(
            "this needs an API key, and the server has none: make one with `causalrn key NAME "
            "--role admin >> keys.toml`, and set CAUSALRN_API_KEYS_FILE to that file"
        )
    if account.key.role != "admin":
        raise ForbiddenError(f"this needs an admin's API key; '{account.key.name}' is a user's")


class SettleAccounts:
    """Settles the account of every request when it is over, whatever ends it.

    Responses tell what is left of the key's quotas.

    Args:
        app: to wrap.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state = scope.setdefault("state", {})

        async def send_with_quotas(message: Message) -> None:
            if message["type"] == "http.response.start" and "account" in state:
                MutableHeaders(scope=message).update(state["account"].headers())
            await send(message)

        try:
            await self.app(scope, receive, send_with_quotas)
        finally:
            if "account" in state:
                state["account"].close()


def _secret(request: HTTPConnection) -> str:
    """The key that a request came with.

    Raises:
        UnauthorizedError: it has none, or several.
    """
    given = request.headers.getlist("authorization")
    scheme, _, secret = (given or [""])[0].partition(" ")
    if len(given) != 1 or scheme.lower() != "bearer" or not secret.strip():
        raise UnauthorizedError("an API key is needed: send 'Authorization: Bearer KEY'")
    return secret.strip()
