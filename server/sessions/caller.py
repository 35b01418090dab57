"""Who asks for sessions, and which sessions they may see."""

from typing import Protocol

from causalrn.server.sessions.store.base import SessionRecord
from causalrn.server.sessions.store.refusals import not_found


class Caller(Protocol):
    """Whoever asks for sessions, such as the `Account` of a request."""

    @property
    def owner(self) -> str:
        """Who owns the sessions that the caller makes."""

    @property
    def sees(self) -> str | None:
        """The only owner whose sessions exist for the caller; None if everybody's do."""

    @property
    def max_sessions(self) -> int | None:
        """How many sessions the owner may have; None for any number."""

    def reserve(self, n_tokens: int) -> None:
        """Keep tokens of the owner's quota for all that the request may use.

        Raises:
            RateLimitedError: the owner's other requests leave none.
        """


def check_seen(record: SessionRecord, caller: Caller) -> None:
    """Raise `SessionNotFoundError` for another owner's session, as if it did not exist."""
    if caller.sees not in (None, record.owner):
        raise not_found(record.id)
