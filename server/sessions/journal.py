"""Between the engine and the streams of sessions: what a client sees is committed first."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from server.engine.core import Outcome
from server.errors import ServiceError, SessionBusyError, SessionTakenError, StoreUnavailableError
from server.sessions.store.base import Append, SessionStore

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class JournaledTurn:
    """A turn of a session that is being written.

    Attributes:
        request_id: of the request.
        session_id: of the session, which the store has given to this owner.
        n_tokens: of its log, as far as it is committed.
        free: called once, when the session is given back.
    """

    request_id: str
    session_id: str
    n_tokens: int
    free: Callable[[], None]
    _token_ids: list[int] = field(default_factory=list)
    _outcomes: list[Outcome] = field(default_factory=list)
    _is_over: bool = False
    _is_failed: bool = False
    _is_free: asyncio.Event = field(default_factory=asyncio.Event)


class Journal:
    """Commits what the turns of sessions generate, all that came since the last commit at once.

    Belongs to the event loop's thread.

    Args:
        store: of the sessions.
        eos_id: the id that ends a sample and is not among those of its deltas.
        hand_over: takes what is committed on to the streams.
        abort: ends a request whose tokens could not be committed.
    """

    def __init__(
        self,
        store: SessionStore,
        eos_id: int,
        hand_over: Callable[[list[Outcome]], None],
        abort: Callable[[str, ServiceError], None],
    ) -> None:
        self._store = store
        self._eos_id = eos_id
        self._hand_over = hand_over
        self._abort = abort
        self._turns: dict[str, JournaledTurn] = {}
        self._changed: dict[str, JournaledTurn] = {}
        self._writing: asyncio.Task[None] | None = None

    @property
    def turns(self) -> list[JournaledTurn]:
        """Turns that are not over."""
        return list(self._turns.values())

    def open(self, turn: JournaledTurn) -> None:
        """Begin to write a turn, whose prompt is committed."""
        self._turns[turn.request_id] = turn

    def write(self, outcome: Outcome) -> None:
        """Commit what the engine made of a turn, and hand it over then."""
        turn = self._turns.get(outcome[0])
        if turn is None or turn._is_over:
            return
        turn._outcomes.append(outcome)
        if isinstance(outcome[1], ServiceError):
            turn._is_over = True
        else:
            delta = outcome[1]
            turn._token_ids += delta.token_ids[delta.n_echoed :]
            if delta.is_eos:
                turn._token_ids.append(self._eos_id)
            turn._is_over = delta.finish_reason is not None
        self._note(turn)

    def close(self, request_id: str) -> None:
        """End a turn that nobody reads any more; what is not committed by now is forgotten."""
        turn = self._turns.get(request_id)
        if turn is not None and not turn._is_over:
            turn._is_over = True
            turn._token_ids, turn._outcomes = [], []
            self._note(turn)

    async def settle(self, session_id: str) -> None:
        """Return when a session is given back if its turn is over, as its reader may know already.

        Args:
            session_id: of a session, which may have no turn.
        """
        for turn in self.turns:
            if turn.session_id == session_id and turn._is_over:
                await turn._is_free.wait()

    async def flush(self) -> None:
        """Return when everything that was written is committed, or has failed."""
        while self._writing is not None:
            await asyncio.shield(self._writing)

    def _note(self, turn: JournaledTurn) -> None:
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
        appends = [
            Append(turn.session_id, turn.n_tokens, turn._token_ids, done=turn._is_over)
            for turn in turns
        ]
        ready = [turn._outcomes for turn in turns]
        for turn in turns:
            turn._token_ids, turn._outcomes = [], []
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
        outcomes: list[Outcome] = []
        for turn, append, error, made in zip(turns, appends, errors, ready, strict=True):
            if error is None:
                turn.n_tokens += len(append.token_ids)
                outcomes += made
            elif not turn._is_failed:
                turn._is_failed = True
                turn._token_ids, turn._outcomes = [], []  # what came since would leave a gap
                self._abort(turn.request_id, _told(error))
        self._hand_over(outcomes)
        for turn, append in zip(turns, appends, strict=True):
            if append.done:
                del self._turns[turn.request_id]
                turn.free()
                turn._is_free.set()


def _told(error: ServiceError) -> ServiceError:
    """What a client is told. It must not send a turn again whose prompt is committed."""
    if isinstance(error, SessionBusyError):
        return SessionTakenError(f"{error.message}; what it said until then is kept")
    return error
