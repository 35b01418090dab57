"""New sessions, within the limits of the server and of their owners."""

import secrets
from collections.abc import Sequence
from dataclasses import replace

from causalrn.server.engine.served_model import ServedModel
from causalrn.server.errors import InvalidRequestError
from causalrn.server.sessions.caller import Caller
from causalrn.server.sessions.store.base import SessionRecord, SessionStore
from causalrn.server.settings import Settings


class SessionMaker:
    """Makes the records of new sessions, and adds them to the store.

    Args:
        store: keeps the logs.
        settings: of the server, with the limits of sessions.
    """

    def __init__(self, store: SessionStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings

    def ttl(self, wanted: float | None) -> float:
        """The time-to-live of a new session, in seconds; by default the longest that is allowed.

        Raises:
            InvalidRequestError: it is too long.
        """
        longest = self._settings.session_ttl
        if wanted is not None and wanted > longest:
            raise InvalidRequestError(
                f"ttl_seconds: must be at most {longest:g}", param="ttl_seconds"
            )
        return longest if wanted is None else wanted

    async def record(
        self, model: ServedModel, ttl: float, caller: Caller, id: str | None = None
    ) -> SessionRecord:
        """The record of an empty session.

        Args:
            model: the model that it belongs to.
            ttl: how many seconds after its last use it expires.
            caller: who asks for it, and so its owner.
            id: the session's id; a new one if None.
        """
        now = await self._store.now()
        return SessionRecord(
            id or _new_id(now), model.name, model.fingerprint, 0, now, now, ttl, owner=caller.owner
        )

    async def child(self, parent: SessionRecord, ttl: float) -> SessionRecord:
        """The record of a new session with the log, the model and the owner of another."""
        now = await self._store.now()
        return replace(parent, id=_new_id(now), created_at=now, used_at=now, ttl=ttl)

    async def add(self, record: SessionRecord, token_ids: Sequence[int], caller: Caller) -> None:
        """Put a new session into the store.

        Raises:
            TooManySessionsError: the server or the owner has as many sessions as it may have.
            SessionExistsError: its id is taken.
        """
        # A fork belongs to its origin's owner, and never counts as the admin's who makes it.
        most = caller.max_sessions if record.owner == caller.owner else None
        await self._store.create(record, token_ids, self._settings.max_sessions, most)


def _new_id(now: float) -> str:
    """A new id. Ids sort by the time at which they were made."""
    return f"ses-{int(now * 1e6):014x}{secrets.token_hex(9)}"
