"""Sessions: what lasts of them is in the store, what is warm of them is in the engine's pool."""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from collections.abc import Sequence as Items
from dataclasses import dataclass, replace
from typing import Any

from server.engine import Engine, Turn
from server.errors import (
    ApiError,
    DeadlineExceededError,
    InvalidRequestError,
    OverloadedError,
    SessionBusyError,
    SessionEmptyError,
    SessionFullError,
    SessionNotFoundError,
    SessionOfOtherWeightsError,
)
from server.generation import GenerationParams
from server.journal import JournaledTurn
from server.session_locks import SessionLocks, busy
from server.session_store.base import SessionRecord, SessionStore
from server.snapshot import Snapshot, largest_size, read_snapshot
from server.token_stream import TokenStream
from server.warm_sessions import PoolUse

logger = logging.getLogger(__name__)

LEASE_SECONDS = 15.0
"""After which the sessions of a server that vanished are free for others."""

_SWEEP_SECONDS = 60.0
_POLL_SECONDS = 0.05  # between two looks at a session that another server has
_MAX_SNAPSHOTS = 4  # that are held in memory at once


@dataclass(frozen=True)
class SessionInfo:
    """A session as clients see it.

    Attributes:
        record: what the store has.
        use: what the pool has.
        token_ids: its log, if it was asked for.
    """

    record: SessionRecord
    use: PoolUse
    token_ids: list[int] | None = None


class Sessions:
    """All that can be done with sessions. Belongs to one event loop's thread.

    Every method raises `StoreUnavailableError` when the store cannot be used, and those that are
    given an id `SessionNotFoundError` when there is no such session.

    Args:
        engine: that computes.
        store: that keeps the logs.

    Attributes:
        snapshots: to be held while a snapshot is in memory, so that many of them cannot fill it.
    """

    def __init__(self, engine: Engine, store: SessionStore) -> None:
        self._engine = engine
        self._store = store
        self._settings = engine.settings
        self._journal = engine.open_journal(store)
        self._locks = SessionLocks()
        self.snapshots = asyncio.Semaphore(_MAX_SNAPSHOTS)
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def max_snapshot_bytes(self) -> int:
        """Size of the largest snapshot that can be restored."""
        return largest_size(self._engine.layers, self._engine.model.config)

    async def start(self) -> None:
        """Open the store; if that fails, sessions are unavailable until it succeeds."""
        try:
            await self._store.open()
        except ApiError as error:
            logger.error("sessions are unavailable: %s", error.message)
        self._spawn(self._every(LEASE_SECONDS / 3, self._renew))
        self._spawn(self._every(_SWEEP_SECONDS, self._sweep))

    async def stop(self) -> None:
        """Commit what is still to be, give all sessions back, and close the store."""
        await self._journal.flush()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._store.close()

    async def create(self, ttl: float | None) -> SessionInfo:
        """Make an empty session.

        Args:
            ttl: seconds after its last use after which it is gone; the server's own limit if None.

        Raises:
            TooManySessionsError: there are as many as there may be.
        """
        record = self._new(self._ttl(ttl))
        await self._store.create(record, [], self._settings.max_sessions)
        return SessionInfo(record, PoolUse())

    async def get(self, id: str, *, with_tokens: bool = False) -> SessionInfo:
        """Look at a session."""
        token_ids = None
        if with_tokens:
            record, token_ids = await self._store.read(id)
        else:
            record = await self._store.get(id)
        (info,) = await self._describe([record])
        return replace(info, token_ids=token_ids)

    async def page(self, after: str | None, limit: int) -> list[SessionInfo]:
        """Up to `limit` sessions whose ids come after one, in the order in which they were made."""
        return await self._describe(await self._store.list(after, limit))

    async def delete(self, id: str) -> None:
        """Remove a session and free what the pool holds of it; ends a request that is in it."""
        await self._store.delete(id)
        for turn in self._journal.turns:
            if turn.session_id == id:
                self._engine.abort(turn.request_id, _deleted(id))
        await self._cool(id)

    async def fork(self, id: str, ttl: float | None) -> SessionInfo:
        """Make a session that goes on from where another is, and shares its memory.

        Raises:
            SessionBusyError: a request is in it.
            TooManySessionsError: there are as many as there may be.
        """
        await self._lock(id)
        try:
            record, token_ids = await self._store.read(id)
            if record.busy:
                raise busy(id)
            child = replace(
                self._new(record.ttl if ttl is None else self._ttl(ttl)),
                model=record.model,
                fingerprint=record.fingerprint,
                n_tokens=len(token_ids),
            )
            await self._store.create(child, token_ids, self._settings.max_sessions)
            await self._engine.call(lambda core: core.scheduler.sessions.fork(id, child.id))
        finally:
            self._locks.release(id)
        (info,) = await self._describe([child])
        return info

    async def submit(
        self,
        id: str,
        source: str | Items[int],
        params: GenerationParams,
        *,
        wait: bool,
        request_id: str,
    ) -> TokenStream:
        """Queue a turn: a request whose prompt and answer become part of a session's log.

        What the stream yields is committed. A turn that ends early leaves what was.

        Args:
            id: of the session.
            source: text, or ids.
            params: what is asked for; one sample.
            wait: whether to wait for a request that is in the session, as long as `params.timeout`
                allows.
            request_id: for the log.

        Raises:
            SessionBusyError: a request is in the session, and `wait` is False.
            SessionOfOtherWeightsError: the session cannot go on with the weights that are served.
            DeadlineExceededError: the wait took too long.
            ApiError: as `Engine.submit`.
        """
        timeout = params.timeout
        began = time.monotonic()
        try:
            async with asyncio.timeout(timeout):
                while True:
                    await self._lock(id, wait=wait)
                    try:
                        if timeout is not None:
                            left = timeout - (time.monotonic() - began)
                            params = replace(params, timeout=max(left, 1e-3))
                        return await self._unbroken(self._begin(id, source, params, request_id))
                    except SessionBusyError:
                        if not wait:
                            raise
                    await asyncio.sleep(_POLL_SECONDS)  # another server has it
        except TimeoutError:
            raise DeadlineExceededError(f"the request took longer than {timeout:g} s") from None

    async def snapshot(self, id: str) -> Snapshot:
        """A session with its memory, which is computed first if it is cold.

        Raises:
            SessionBusyError: a request is in it.
            SessionEmptyError: there is nothing in it yet.
            SessionOfOtherWeightsError: its memory cannot be computed with these weights.
            OverloadedError: there is no room to compute it now.
        """
        await self._lock(id)
        try:
            record, token_ids = await self._store.read(id)
            self._check(record)
            if record.busy:
                raise busy(id)
            if not token_ids:
                raise SessionEmptyError(f"session {id} is empty, there is nothing to save")
            held = await self._engine.call(lambda core: core.export_session(id, token_ids))
            if held is None:
                await self._warm(Turn(id, token_ids))
                held = await self._engine.call(lambda core: core.export_session(id, token_ids))
            if held is None:
                raise OverloadedError("the session's memory was needed by others; try again later")
        finally:
            self._locks.release(id)
        return Snapshot(token_ids, *held)

    async def restore(self, id: str, data: bytes) -> tuple[SessionInfo, bool]:
        """Make a session out of a snapshot, or put it in the place of an existing one.

        Returns:
            The session, and whether it is new.

        Raises:
            InvalidSnapshotError: the snapshot cannot be used; nothing is changed.
            SessionFullError: it has more tokens than a session may have.
            SessionBusyError: a request is in the session.
            TooManySessionsError: there are as many as there may be.
        """
        engine = self._engine
        snapshot = await asyncio.to_thread(read_snapshot, data, engine.model, engine.layers)
        token_ids, held = snapshot.token_ids, snapshot.token_ids[: snapshot.n_held]
        most = self._settings.max_session_tokens
        if len(token_ids) > most:
            raise SessionFullError(
                f"the snapshot has {len(token_ids)} tokens, a session may have {most}"
            )
        await self._lock(id)
        try:
            record = replace(self._new(self._settings.session_ttl, id), n_tokens=len(token_ids))
            try:
                known = await self._store.get(id)
            except SessionNotFoundError:
                await self._store.create(record, token_ids, self._settings.max_sessions)
                is_new = True
            else:
                record = replace(record, created_at=known.created_at, ttl=known.ttl)
                await self._store.replace(record, token_ids)
                is_new = False
            await engine.call(lambda core: core.import_session(id, held, snapshot.memory))
        finally:
            self._locks.release(id)
        (info,) = await self._describe([record])
        return info, is_new

    def _ttl(self, ttl: float | None) -> float:
        longest = self._settings.session_ttl
        if ttl is not None and ttl > longest:
            raise InvalidRequestError(
                f"ttl_seconds: must be at most {longest:g}", param="ttl_seconds"
            )
        return longest if ttl is None else ttl

    def _new(self, ttl: float, id: str | None = None) -> SessionRecord:
        now = time.time()
        model = self._engine.model
        id = id or f"ses-{int(now * 1e6):014x}{secrets.token_hex(9)}"  # they sort by time
        return SessionRecord(id, model.name, model.fingerprint, 0, now, now, ttl)

    def _check(self, record: SessionRecord) -> None:
        model = self._engine.model
        if record.fingerprint != model.fingerprint:
            raise SessionOfOtherWeightsError(
                f"session {record.id} belongs to weights {record.fingerprint:.12} "
                f"({record.model}), this server has {model.fingerprint:.12} ({model.name})"
            )

    async def _describe(self, records: list[SessionRecord]) -> list[SessionInfo]:
        ids = [record.id for record in records]
        uses = await self._engine.call(lambda core: [core.scheduler.sessions.use(id) for id in ids])
        return [
            SessionInfo(replace(record, busy=record.busy or record.id in self._locks), use)
            for record, use in zip(records, uses, strict=True)
        ]

    async def _begin(
        self, id: str, source: str | Items[int], params: GenerationParams, request_id: str
    ) -> TokenStream:
        """Begin a turn of a session that is locked; whatever ends the turn unlocks it."""
        unlock = contextlib.ExitStack()
        unlock.callback(self._locks.release, id)
        with unlock:
            record, token_ids = await self._store.read(id)
            self._check(record)
            if not source and not token_ids:
                raise SessionEmptyError(
                    f"session {id} is empty, there is nothing to go on from", param="prompt"
                )
            ticket = self._engine.admit(source, params, Turn(id, token_ids))
            try:
                await self._store.begin(id, len(token_ids), ticket.prompt)
            except BaseException:
                self._engine.withdraw(ticket)
                raise
            n_tokens = len(token_ids) + len(ticket.prompt)
            turn = JournaledTurn(ticket.id, id, n_tokens, unlock.pop_all().close)
            self._journal.open(turn)
            stream = self._engine.enqueue(ticket, request_id=request_id, journal=self._journal)
            stream.turn = turn
            return stream

    async def _lock(self, id: str, *, wait: bool = False) -> None:
        """Take a session for this request; `self._locks.release` it afterwards."""
        await self._journal.settle(id)
        await self._locks.acquire(id, wait=wait)

    async def _unbroken(self, work: Coroutine[Any, Any, TokenStream]) -> TokenStream:
        """Let the beginning of a turn come to its end, even if nobody waits for it any more."""
        task = self._spawn(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._abandon)
            raise

    def _abandon(self, task: asyncio.Task[TokenStream]) -> None:
        if not task.cancelled() and task.exception() is None:
            self._engine.abort(task.result().id)

    async def _warm(self, turn: Turn) -> None:
        """Compute the memory of a session, which is locked, without adding to it."""
        params = GenerationParams(max_tokens=0, mode="raw")
        async with self._engine.enqueue(self._engine.admit([], params, turn)) as stream:
            async for _ in stream:
                pass

    async def _cool(self, id: str) -> None:
        await self._engine.call(lambda core: core.scheduler.sessions.drop(id))

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            with contextlib.suppress(ApiError):  # the store said so in the log
                await work()

    async def _renew(self) -> None:
        await self._store.renew([turn.session_id for turn in self._journal.turns])

    async def _sweep(self) -> None:
        """Remove expired sessions, and what the pool holds of those that are gone."""
        await self._store.sweep()
        for id in await self._engine.call(lambda core: core.scheduler.sessions.ids):
            try:
                await self._store.get(id)
            except SessionNotFoundError:
                if id not in self._locks:
                    await self._cool(id)


def _deleted(id: str) -> SessionNotFoundError:
    return SessionNotFoundError(f"session {id} was deleted")
