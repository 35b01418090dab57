"""Saving sessions with their memory, and making sessions out of what was saved."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from causalrn.server.engine.engines import Engines
from causalrn.server.engine.served_model import ServedModel
from causalrn.server.engine.ticket import Context
from causalrn.server.errors import (
    InvalidSnapshotError,
    OverloadedError,
    SessionEmptyError,
    SessionFullError,
    SessionNotFoundError,
)
from causalrn.server.sessions.caller import Caller, check_seen
from causalrn.server.sessions.engine_finder import EngineFinder
from causalrn.server.sessions.locks import SessionLocks
from causalrn.server.sessions.memory import SessionMemory
from causalrn.server.sessions.session_maker import SessionMaker
from causalrn.server.sessions.snapshot import (
    Snapshot,
    fingerprint_of,
    largest_header,
    largest_size,
    read_snapshot,
)
from causalrn.server.sessions.store.base import SessionRecord, SessionStore
from causalrn.server.sessions.store.refusals import busy, exists
from causalrn.server.sessions.turns import SessionTurns
from causalrn.server.settings import Settings

_MOST_IN_MEMORY = 4
_MOST_UPLOADS = 16


class Snapshots:
    """Saves and restores sessions. Belongs to one event loop's thread.

    Args:
        engines: compute memory that is cold.
        memory: of sessions, in the engines.
        store: keeps the logs.
        settings: of the server, with the limits of sessions.
        turns: those that this server runs.
        locks: which sessions requests of this server use.

    Attributes:
        room: held by routes while a snapshot is in this process's memory, so that many snapshots
            cannot fill it.
    """

    def __init__(
        self,
        engines: Engines,
        memory: SessionMemory,
        store: SessionStore,
        settings: Settings,
        turns: SessionTurns,
        locks: SessionLocks,
    ) -> None:
        self._engines = engines
        self._finder = EngineFinder(engines)
        self._memory = memory
        self._store = store
        self._settings = settings
        self._maker = SessionMaker(store, settings)
        self._turns = turns
        self._locks = locks
        self.room = asyncio.Semaphore(_MOST_IN_MEMORY)
        self._n_uploads = 0

    @property
    def max_bytes(self) -> int:
        """Size of the largest snapshot that can be restored."""
        return max(largest_size(engine.layers, engine.model.config) for engine in self._engines)

    @contextmanager
    def upload(self) -> Iterator[None]:
        """Held by a route while a snapshot is on its way in, so that many cannot fill the disk.

        Raises:
            OverloadedError: there are as many as there may be.
        """
        if self._n_uploads >= _MOST_UPLOADS:
            raise OverloadedError(
                f"{_MOST_UPLOADS} snapshots are being uploaded already; try again later"
            )
        self._n_uploads += 1
        try:
            yield
        finally:
            self._n_uploads -= 1

    async def save(self, caller: Caller, id: str) -> tuple[Snapshot, ServedModel]:
        """A session with its memory, which is computed first if it is cold, and its model.

        Raises:
            SessionBusyError: a request uses it.
            SessionEmptyError: its log is empty.
            SessionOfOtherWeightsError: no engine has its weights.
            OverloadedError: there is no room to compute it now.
            ServiceError: as any method of `Sessions`.
        """
        await self._turns.lock(id)
        try:
            record, token_ids = await self._store.read(id)
            check_seen(record, caller)
            engine = self._finder.require(record)
            if record.busy:
                raise busy(id)
            if not token_ids:
                raise SessionEmptyError(f"session {id} is empty, there is nothing to save")
            held = await self._memory.save(engine, Context(id, token_ids), record.owner)
            if held is None:
                raise OverloadedError(
                    "other requests needed the room of the session's memory; try again later"
                )
        finally:
            self._locks.release(id)
        return Snapshot(token_ids, *held), engine.model

    async def restore(self, caller: Caller, id: str, data: bytes) -> tuple[SessionRecord, bool]:
        """Make a session out of a snapshot, or put it in the place of an existing one.

        Returns:
            The session, and whether it is new.

        Raises:
            InvalidSnapshotError: the snapshot cannot be used; nothing is changed.
            SessionFullError: it has more tokens than a session may have.
            SessionBusyError: a request uses the session.
            SessionExistsError: the session with this id is another owner's.
            TooManySessionsError: the server or the owner has as many sessions as it may have.
            ServiceError: as any method of `Sessions`.
        """
        most = max(largest_header(engine.layers) for engine in self._engines)
        fingerprint = fingerprint_of(data, most)
        fitting = self._finder.of_weights(fingerprint)
        if fingerprint is not None and not fitting:
            raise InvalidSnapshotError(
                f"the snapshot is of weights {fingerprint:.12}, "
                f"this server has {self._finder.weights()}"
            )
        engine, *_ = [*fitting, self._engines.default]  # any engine can tell that it is no snapshot
        model = engine.model
        snapshot = await asyncio.to_thread(read_snapshot, data, model, engine.layers)
        token_ids, held = snapshot.token_ids, snapshot.token_ids[: snapshot.n_held]
        most = self._settings.max_session_tokens
        if len(token_ids) > most:
            raise SessionFullError(
                f"the snapshot has {len(token_ids)} tokens, a session may have {most}"
            )
        await self._turns.lock(id)
        try:
            new = await self._maker.record(model, self._settings.session_ttl, caller, id)
            record, is_new = await self._put(caller, new, token_ids)
            await self._memory.restore(engine, id, held, snapshot.memory)
        finally:
            self._locks.release(id)
        return record, is_new

    async def _put(
        self, caller: Caller, new: SessionRecord, token_ids: list[int]
    ) -> tuple[SessionRecord, bool]:
        """Write a restored session, whose id is locked, to the store."""
        new = replace(new, n_tokens=len(token_ids))
        try:
            known = await self._store.get(new.id)
        except SessionNotFoundError:
            await self._maker.add(new, token_ids, caller)
            return new, True
        if caller.sees not in (None, known.owner):
            raise exists(new.id)
        record = replace(new, created_at=known.created_at, ttl=known.ttl, owner=known.owner)
        await self._store.replace(record, token_ids)
        await self._memory.drop(record.id, known.fingerprint)
        return record, False
