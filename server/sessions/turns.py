"""Turns of sessions: requests whose prompts and answers become part of a session's log."""

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from collections.abc import Sequence as Items
from dataclasses import replace
from typing import Any

from causalrn.server.engine.engine import Engine
from causalrn.server.engine.engines import Engines
from causalrn.server.engine.generation import GenerationParams
from causalrn.server.engine.ticket import Context
from causalrn.server.engine.token_stream import TokenStream
from causalrn.server.errors import (
    DeadlineExceededError,
    SessionBusyError,
    SessionEmptyError,
    SessionNotFoundError,
)
from causalrn.server.sessions.caller import Caller, check_seen
from causalrn.server.sessions.engine_finder import EngineFinder
from causalrn.server.sessions.journal import Journal
from causalrn.server.sessions.locks import SessionLocks
from causalrn.server.sessions.store.base import SessionStore
from causalrn.server.sessions.turn import Turn

_POLL_SECONDS = 0.05  # between two looks at a session that another server has leased


class SessionTurns:
    """The turns that this server runs, and what is written of them.

    Args:
        engines: compute the turns.
        store: keeps the logs.
        locks: which sessions requests of this server use.
    """

    def __init__(self, engines: Engines, store: SessionStore, locks: SessionLocks) -> None:
        self._finder = EngineFinder(engines)
        self._store = store
        self._locks = locks
        self._journals: dict[Engine, Journal] = {}
        self._beginnings: set[asyncio.Task[tuple[TokenStream, Turn]]] = set()
        engines.at_parting(self._part)

    @property
    def running(self) -> list[Turn]:
        """Turns that still have their sessions."""
        return [turn for journal in self._journals.values() for turn in journal.turns]

    async def lock(self, id: str, *, wait: bool = False, is_turn: bool = False) -> None:
        """Lock a session for a request, once its last turn is written; release it afterwards.

        Raises:
            SessionBusyError: see `SessionLocks.acquire`.
        """
        for journal in list(self._journals.values()):
            await journal.settle(id)
        await self._locks.acquire(id, wait=wait, is_turn=is_turn)

    async def submit(
        self,
        caller: Caller,
        id: str,
        source: str | Items[int],
        params: GenerationParams,
        *,
        wait: bool,
        request_id: str,
        model: str | None = None,
    ) -> tuple[TokenStream, Turn]:
        """Queue a turn: a request whose prompt and answer become part of a session's log.

        What the stream yields is committed. If a turn ends early, the log keeps what was committed:
        the prompt at least, unless the answer may be that nothing was found. Then the prompt is
        committed with the first token of an answer.

        Args:
            caller: who asks.
            id: the session's id.
            source: text, or ids.
            params: what is asked for; one sample.
            wait: whether to wait while another request uses the session, at most for
                `params.timeout`.
            request_id: the id that the client knows, for the log.
            model: name of the model that the session must belong to; None for any.

        Returns:
            The stream, which must be closed, and the turn behind it.

        Raises:
            SessionBusyError: another request uses the session, and `wait` is False.
            SessionOfOtherWeightsError: no engine has the session's weights, or it belongs to
                another model.
            DeadlineExceededError: the wait took too long.
            RateLimitedError: the caller's quota leaves no tokens for it.
            ServiceError: as `Engine.submit`, and as any method of `Sessions`.
        """
        timeout = params.timeout
        began = time.monotonic()
        try:
            async with asyncio.timeout(timeout):
                while True:
                    await self.lock(id, wait=wait, is_turn=True)
                    try:
                        if timeout is not None:
                            left = timeout - (time.monotonic() - began)
                            params = replace(params, timeout=max(left, 1e-3))
                        return await self._unbroken(
                            self._begin(caller, id, source, params, request_id, model)
                        )
                    except SessionBusyError:
                        if not wait:
                            raise
                    await asyncio.sleep(_POLL_SECONDS)  # another server has leased it
        except TimeoutError:
            raise DeadlineExceededError(f"the request took longer than {timeout:g} s") from None

    def end(self, id: str) -> None:
        """End the turn of a session, as the session was deleted."""
        for engine, journal in self._journals.items():
            for turn in journal.turns:
                if turn.session_id == id:
                    error = SessionNotFoundError(f"session {id} was deleted")
                    engine.abort(turn.request_id, error)

    async def stop(self) -> None:
        """Commit what is left to commit, and begin no more turns."""
        for journal in list(self._journals.values()):
            await journal.flush()
        for task in self._beginnings:
            task.cancel()
        await asyncio.gather(*self._beginnings, return_exceptions=True)

    async def _begin(
        self,
        caller: Caller,
        id: str,
        source: str | Items[int],
        params: GenerationParams,
        request_id: str,
        model: str | None,
    ) -> tuple[TokenStream, Turn]:
        """Begin a turn of a session that is locked; whatever ends the turn unlocks it."""
        unlock = contextlib.ExitStack()
        unlock.callback(self._locks.release, id)
        with unlock:
            record, token_ids = await self._store.read(id)
            check_seen(record, caller)
            engine = self._finder.require(record, model)
            if not source and not token_ids:
                raise SessionEmptyError(
                    f"session {id} is empty, there is nothing to go on from", param="prompt"
                )
            ticket = engine.admit(source, params, Context(id, token_ids), owner=record.owner)
            journal = self._journal_of(engine)
            # A turn that finds nothing is to leave nothing, not even if the server is killed.
            now, later = ticket.prompt, list[int]()
            if ticket.may_find_nothing:
                now, later = later, now
            try:
                caller.reserve(ticket.most_tokens)
                await self._store.begin(id, len(token_ids), now)
            except BaseException:
                engine.withdraw(ticket)
                raise
            n_tokens = len(token_ids) + len(now)
            eos_id = engine.model.config.eos_id
            turn = Turn(ticket.id, id, n_tokens, eos_id, unlock.pop_all().close, later)
            journal.open(turn)
            return engine.enqueue(ticket, request_id=request_id, sink=journal), turn

    async def _unbroken(
        self, work: Coroutine[Any, Any, tuple[TokenStream, Turn]]
    ) -> tuple[TokenStream, Turn]:
        """Finish the beginning of a turn even if whoever waits for it is cancelled."""
        task = asyncio.create_task(work)
        self._beginnings.add(task)
        task.add_done_callback(self._beginnings.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._abandon)
            raise

    def _abandon(self, task: asyncio.Task[tuple[TokenStream, Turn]]) -> None:
        if not task.cancelled() and task.exception() is None:
            _, turn = task.result()
            for engine in self._journals:  # one of them runs it
                engine.abort(turn.request_id)

    def _journal_of(self, engine: Engine) -> Journal:
        if engine not in self._journals:
            self._journals[engine] = Journal(self._store, engine.hand_over, engine.abort)
        return self._journals[engine]

    async def _part(self, engine: Engine) -> None:
        """Commit what is left of the turns of an engine that has stopped, and forget the engine."""
        if self._beginnings:  # the engine may have admitted them
            await asyncio.wait(set(self._beginnings))
        if (journal := self._journals.get(engine)) is not None:
            await journal.flush()
            del self._journals[engine]
