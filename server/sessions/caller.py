"""Who asks for sessions, and which there are for whom."""

from typing import Protocol

from server.sessions.store.base import SessionRecord
from server.sessions.store.refusals import not_found


class Holder(Protocol):
    """Who asks for sessions. A request's `Account` is a holder."""

    @property
    def owner(self) -> str:
        """The name that new sessions get as their owner."""

    @property
    def sees(self) -> str | None:
        """The only owner whose sessions exist for this holder; None if everybody's do."""

    @property
    def max_sessions(self) -> int | None:
        """How many sessions the owner may have; None for any number."""


def check_seen(record: SessionRecord, holder: Holder) -> None:
    """Raise `SessionNotFoundError` for another's session, as if there were none."""
    if holder.sees not in (None, record.owner):
        raise not_found(record.id)
