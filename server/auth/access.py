"""Who may use the server: its keys, and the account that each request gets with its key."""

from collections.abc import Sequence
from typing import Protocol

from causalrn.server.auth.api_keys import ApiKeys
from causalrn.server.auth.rate_limits import KeyUsage
from causalrn.server.errors import ForbiddenError, UnauthorizedError


class Metered(Protocol):
    """Something that uses tokens, such as the stream of a generation."""

    @property
    def n_prompt_tokens(self) -> int:
        """Tokens that the model reads."""

    @property
    def n_completion_tokens(self) -> int:
        """Tokens generated so far."""


class Account:
    """What a request may do and use, by the key that it came with.

    Args:
        usage: what the key has used of its quotas; None if the server has no keys.

    Attributes:
        key: the key; None if the server has no keys.
    """

    def __init__(self, usage: KeyUsage | None) -> None:
        self.key = None if usage is None else usage.key
        self._usage = usage
        self._streams: list[Metered] = []
        self._open = False
        self._reserved = 0

    @property
    def owner(self) -> str:
        """Who owns the sessions that the request makes: the key's name, or "" without a key."""
        return "" if self.key is None else self.key.name

    @property
    def sees(self) -> str | None:
        """The only owner whose sessions the request may see; None if it may see everybody's."""
        return None if self.key is None or self.key.role == "admin" else self.key.name

    @property
    def max_sessions(self) -> int | None:
        """How many sessions the owner may have; None for any number."""
        return None if self.key is None else self.key.max_sessions

    def require_admin(self) -> None:
        """Return if the key is an admin's.

        Raises:
            ForbiddenError: it is a user's, or the server has no keys.
        """
        if self.key is None:
            raise ForbiddenError(
                "this needs an API key, and the server has none: make one with `causalrn key NAME "
                "--role admin >> keys.toml`, and set CAUSALRN_API_KEYS_FILE to that file"
            )
        if self.key.role != "admin":
            raise ForbiddenError(f"this needs an admin's API key; '{self.key.name}' is a user's")

    def open(self) -> None:
        """Count the request.

        Raises:
            RateLimitedError: a quota of the key is used up.
        """
        if self._usage is not None:
            self._usage.begin()
            self._open = True

    def reserve(self, n_tokens: int) -> None:
        """Keep tokens for all that the request may use, in place of those kept for it before.

        Raises:
            RateLimitedError: the key's other requests leave none.
        """
        if self._open and self._usage is not None:
            self._usage.reserve(n_tokens, before=self._reserved)
            self._reserved = n_tokens

    def meter(self, stream: Metered) -> None:
        """Charge the key for what a generation will have used when the request is over."""
        self._streams.append(stream)

    def close(self) -> None:
        """Settle the account, as the request is over; idempotent."""
        if self._open and self._usage is not None:
            self._open = False
            used = (one.n_prompt_tokens + one.n_completion_tokens for one in self._streams)
            self._usage.end(sum(used), reserved=self._reserved)

    def headers(self) -> dict[str, str]:
        """What is left of the key's quotas, as headers of a response."""
        return {} if self._usage is None else self._usage.headers()


class Access:
    """The keys of a server, and what each of them has used.

    Args:
        keys: without any, everybody may use everything but the admin routes.
    """

    def __init__(self, keys: ApiKeys) -> None:
        self._keys = keys
        self._usages: dict[str, KeyUsage] = {}
        if len(keys):
            self._usages = {key.name: KeyUsage(key) for key in keys}

    def identify(self, credentials: Sequence[str]) -> Account:
        """The account of a request, not opened yet.

        Args:
            credentials: every `Authorization` header of the request.

        Raises:
            UnauthorizedError: the server has keys, and the request has none of them.
        """
        if not self._usages:
            return Account(None)
        key = self._keys.find(_secret(credentials))
        if key is None:
            raise UnauthorizedError("this API key is not known")
        return Account(self._usages[key.name])


def _secret(credentials: Sequence[str]) -> str:
    """The key that a request came with.

    Raises:
        UnauthorizedError: it has none, or several.
    """
    scheme, _, secret = (credentials or [""])[0].partition(" ")
    if len(credentials) != 1 or scheme.lower() != "bearer" or not secret.strip():
        raise UnauthorizedError("an API key is needed: send 'Authorization: Bearer KEY'")
    return secret.strip()
