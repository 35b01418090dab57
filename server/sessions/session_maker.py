"""New sessions, within the limits of the server and of their owners."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import replace

from server.engine.served_model import ServedModel
from server.errors import InvalidRequestError
from server.sessions.holder import Holder
from server.sessions.store.base import SessionRecord, SessionStore
from server.settings import Settings


class SessionMaker:
    """Writes the records of new sessions, and adds them to the store.

    Args:
        store: that keeps the logs.
        settings: with the limits of sessions.
    """

    def __init__(self, store: SessionStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings

    def ttl(self, wanted: float | None) -> float:
        """The time-to-live of a new session, in seconds: the longest, unless another is wanted.

        Raises:
            InvalidRequestError: it is too long.
        """
        longest = self._settings.session_ttl
        if wanted is not None and wanted > longest:
            raise InvalidRequestError(
                f"ttl_seconds: must be at most {longest:g}", param="ttl_seconds"
            )
        return longest if wanted is None else wanted

    def record(
        self, model: ServedModel, ttl: float, holder: Holder, id: str | None = None
    ) -> SessionRecord:
        """The record of an empty session of a model, which is the holder's.

        Args:
            model: that it belongs to.
            ttl: seconds after its last use after which it is gone.
            holder: who asks for it.
            id: of the session; a new one if None.
        """
        now = time.time()
        return SessionRecord(
            id or _new_id(now), model.name, model.fingerprint, 0, now, now, ttl, owner=holder.owner
        )

    def child(self, parent: SessionRecord, ttl: float) -> SessionRecord:
        """The record of a new session with the log, the model and the owner of another."""
        now = time.time()
        return replace(parent, id=_new_id(now), created_at=now, used_at=now, ttl=ttl)

    async def add(self, record: SessionRecord, token_ids: Sequence[int], holder: Holder) -> None:
        """Put a new session into the store.

        Raises:
            TooManySessionsError: there are as many as there may be, or the holder has.
            SessionExistsError: its id is taken.
        """
        # What an admin forks is its owner's, and does not count as the admin's.
        most = holder.max_sessions if record.owner == holder.owner else None
        await self._store.create(record, token_ids, self._settings.max_sessions, most)


def _new_id(now: float) -> str:
    """An id; they sort by time."""
    return f"ses-{int(now * 1e6):014x}{secrets.token_hex(9)}"
