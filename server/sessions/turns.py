"""Turns of sessions: requests whose prompts and answers become part of a session's log."""

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from collections.abc import Sequence as Items
from dataclasses import replace
from typing import Any

from server.engine.engine import Engine
from server.engine.engines import Engines
from server.engine.generation import GenerationParams
from server.engine.ticket import Context
from server.engine.token_stream import TokenStream
from server.errors import (
    DeadlineExceededError,
    SessionBusyError,
    SessionEmptyError,
    SessionNotFoundError,
)
from server.sessions.engine_finder import EngineFinder
from server.sessions.holder import Holder, check_seen
from server.sessions.journal import Journal
from server.sessions.locks import SessionLocks
from server.sessions.store.base import SessionStore
from server.sessions.turn import Turn

_POLL_SECONDS = 0.05  # between two looks at a session that another server has


class SessionTurns:
    """The turns that this server runs, and what is written of them.

    Args:
        engines: that compute.
        store: that keeps the logs.
        locks: of the sessions that requests of this server are in.
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
        """Turns whose sessions are not given back yet."""
        return [turn for journal in self._journals.values() for turn in journal.turns]

    async def lock(self, id: str, *, wait: bool = False) -> None:
        """Take a session for a request once its last turn is written; the caller releases it."""
        for journal in list(self._journals.values()):
            await journal.settle(id)
        await self._locks.acquire(id, wait=wait)

    async def submit(
        self,
        holder: Holder,
        id: str,
        source: str | Items[int],
        params: GenerationParams,
        *,
        wait: bool,
        request_id: str,
        model: str | None = None,
    ) -> tuple[TokenStream, Turn]:
        """Queue a turn: a request whose prompt and answer become part of a session's log.

        What the stream yields is committed. A turn that ends early leaves what was.

        Args:
            holder: who asks.
            id: of the session.
            source: text, or ids.
            params: what is asked for; one sample.
            wait: whether to wait while another request is in the session, for `params.timeout` at
                most.
            request_id: the id that the client knows, for the log.
            model: name of the model that the session must belong to; None for any.

        Returns:
            The stream, which must be closed, and the turn that goes on behind it.

        Raises:
            SessionBusyError: a request is in the session, and `wait` is False.
            SessionOfOtherWeightsError: the session cannot go on with the weights that are served,
                or belongs to another model.
            DeadlineExceededError: the wait took too long.
            ServiceError: as `Engine.submit`, and as any method of `Sessions`.
        """
        timeout = params.timeout
        began = time.monotonic()
        try:
            async with asyncio.timeout(timeout):
                while True:
                    await self.lock(id, wait=wait)
                    try:
                        if timeout is not None:
                            left = timeout - (time.monotonic() - began)
                            params = replace(params, timeout=max(left, 1e-3))
                        return await self._unbroken(
                            self._begin(holder, id, source, params, request_id, model)
                        )
                    except SessionBusyError:
                        if not wait:
                            raise
                    await asyncio.sleep(_POLL_SECONDS)  # another server has it
        except TimeoutError:
            raise DeadlineExceededError(f"the request took longer than {timeout:g} s") from None

    def end(self, id: str) -> None:
        """End the turn that is in a session, which was deleted."""
        for engine, journal in self._journals.items():
            for turn in journal.turns:
                if turn.session_id == id:
                    error = SessionNotFoundError(f"session {id} was deleted")
                    engine.abort(turn.request_id, error)

    async def stop(self) -> None:
        """Commit what is still to be, and begin nothing more."""
        for journal in list(self._journals.values()):
            await journal.flush()
        for task in self._beginnings:
            task.cancel()
        await asyncio.gather(*self._beginnings, return_exceptions=True)

    async def _begin(
        self,
        holder: Holder,
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
            check_seen(record, holder)
            engine = self._finder.require(record, model)
            if not source and not token_ids:
                raise SessionEmptyError(
                    f"session {id} is empty, there is nothing to go on from", param="prompt"
                )
            ticket = engine.admit(source, params, Context(id, token_ids), owner=record.owner)
            journal = self._journal_of(engine)
            try:
                await self._store.begin(id, len(token_ids), ticket.prompt)
            except BaseException:
                engine.withdraw(ticket)
                raise
            n_tokens = len(token_ids) + len(ticket.prompt)
            eos_id = engine.model.config.eos_id
            turn = Turn(ticket.id, id, n_tokens, eos_id, unlock.pop_all().close)
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
            for engine in self._journals:  # one of which has it
                engine.abort(turn.request_id)

    def _journal_of(self, engine: Engine) -> Journal:
        if engine not in self._journals:
            self._journals[engine] = Journal(self._store, engine.hand_over, engine.abort)
        return self._journals[engine]

    async def _part(self, engine: Engine) -> None:
        """Commit what is still to be of the turns of an engine that has ended, and forget it."""
        if self._beginnings:  # which may have been admitted by it
            await asyncio.wait(set(self._beginnings))
        if (journal := self._journals.get(engine)) is not None:
            await journal.flush()
            del self._journals[engine]
