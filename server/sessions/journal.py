"""Commits what the turns of sessions generate before any client sees it."""

import asyncio
import logging
from collections.abc import Callable

from causalrn.server.engine.deltas import Outcome
from causalrn.server.errors import (
    ServiceError,
    SessionBusyError,
    SessionTakenError,
    StoreUnavailableError,
)
from causalrn.server.sessions.store.base import SessionStore
from causalrn.server.sessions.turn import Turn

logger = logging.getLogger(__name__)


class Journal:
    """The engine's `Sink` for turns: commits what they generate, then hands it over.

    Everything that came since the last commit goes into the next one. All of it belongs to the
    event loop's thread.

    Args:
        store: that keeps the sessions.
        hand_over: passes on to the streams what is committed.
        abort: ends a request whose tokens could not be committed; this calls `close`.
    """

    def __init__(
        self,
        store: SessionStore,
        hand_over: Callable[[list[Outcome]], None],
        abort: Callable[[str, ServiceError], None],
    ) -> None:
        self._store = store
        self._hand_over = hand_over
        self._abort = abort
        self._turns: dict[str, Turn] = {}
        self._changed: dict[str, Turn] = {}
        self._writing: asyncio.Task[None] | None = None

    @property
    def turns(self) -> list[Turn]:
        """Turns that still have their sessions."""
        return list(self._turns.values())

    def open(self, turn: Turn) -> None:
        """Begin to write a turn, whose session is leased already."""
        self._turns[turn.request_id] = turn

    def write(self, outcome: Outcome) -> None:
        """Have what the engine made of a turn committed, and handed over after that."""
        turn = self._turns.get(outcome[0])
        if turn is not None and not turn.is_over:
            turn.add(outcome)
            self._note(turn)

    def close(self, request_id: str) -> None:
        """End a turn that nobody reads any more; what is not being committed yet is dropped."""
        turn = self._turns.get(request_id)
        if turn is not None and not turn.is_over:
            turn.cut_off()
            self._note(turn)

    async def settle(self, session_id: str) -> None:
        """Wait until a session is given back whose turn is over.

        A client that has read the end of a turn may send the next one before the last commit.

        Args:
            session_id: the session's id; it may have no turn.
        """
        for turn in self.turns:
            if turn.session_id == session_id and turn.is_over:
                await turn.freed()

    async def flush(self) -> None:
        """Return when everything that was written is committed, or has failed."""
        while self._writing is not None:
            await asyncio.shield(self._writing)

    def _note(self, turn: Turn) -> None:
        self._changed[turn.request_id] = turn
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._changed:
                await self._commit()
        finally:
            self._writing = None

    async def _commit(self) -> None:
        turns, self._changed = list(self._changed.values()), {}
        appends, made = zip(*(turn.take() for turn in turns), strict=True)
        errors: list[ServiceError | None]
        try:
            errors = await self._store.append(appends)
        except ServiceError as refusal:
            errors = [refusal] * len(turns)
        except Exception:
            logger.exception("writing to %d sessions failed", len(turns))
            errors = [StoreUnavailableError("the session could not be written; try again")] * len(
                turns
            )
        readable: list[Outcome] = []
        for turn, append, outcomes, error in zip(turns, appends, made, errors, strict=True):
            if error is None:
                turn.committed(append)
                readable += outcomes
            elif turn.fail():
                self._abort(turn.request_id, _told(error))
        self._hand_over(readable)
        for turn, append in zip(turns, appends, strict=True):
            if append.done:
                del self._turns[turn.request_id]
                turn.give_back()


def _told(error: ServiceError) -> ServiceError:
    """The error that a client gets, who must not repeat a turn whose prompt is committed."""
    if isinstance(error, SessionBusyError):
        return SessionTakenError(f"{error.message}; what was generated until then is kept")
    return error
