"""Sessions: what lasts of them is in the store, what is warm of them in the engines' pools."""

import asyncio
import contextlib
import functools
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from collections.abc import Sequence as Items
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from server.engine import Engine, Turn
from server.engine_core import EngineCore
from server.errors import (
    ApiError,
    DeadlineExceededError,
    InvalidRequestError,
    InvalidSnapshotError,
    NotReadyError,
    OverloadedError,
    SessionBusyError,
    SessionEmptyError,
    SessionFullError,
    SessionNotFoundError,
    SessionOfOtherWeightsError,
)
from server.generation import GenerationParams
from server.journal import Journal, JournaledTurn
from server.models import Models
from server.served_model import ServedModel
from server.session_locks import SessionLocks, busy
from server.session_store.base import SessionRecord, SessionStore
from server.session_store.refusals import exists, not_found
from server.settings import Settings
from server.snapshot import Snapshot, fingerprint_of, largest_size, read_snapshot
from server.token_stream import TokenStream
from server.warm_sessions import PoolUse

logger = logging.getLogger(__name__)

T = TypeVar("T")

LEASE_SECONDS = 15.0
"""After which the sessions of a server that vanished are free for others."""

_SWEEP_SECONDS = 60.0
_POLL_SECONDS = 0.05  # between two looks at a session that another server has
_MAX_SNAPSHOTS = 4  # that are held in memory at once


class Holder(Protocol):
    """Who asks for sessions; a request's `Account` is one."""

    @property
    def owner(self) -> str:
        """Whose new sessions are."""

    @property
    def sees(self) -> str | None:
        """Whose sessions alone there are for it; None for everybody's."""

    @property
    def max_sessions(self) -> int | None:
        """How many sessions the owner may have; None for any number."""


@dataclass(frozen=True)
class SessionInfo:
    """A session as clients see it.

    Attributes:
        record: what the store has.
        use: what the pool has.
        pool_bytes: memory of the pages that it has there.
        token_ids: its log, if it was asked for.
    """

    record: SessionRecord
    use: PoolUse
    pool_bytes: int = 0
    token_ids: list[int] | None = None


class Sessions:
    """All that can be done with sessions. Belongs to one event loop's thread.

    A session belongs to the weights that it was made with: any engine that has these computes it,
    that of the model of the same name before others. While there is none, it can be looked at,
    forked and deleted.

    Every method raises `StoreUnavailableError` when the store cannot be used, and those that are
    given an id `SessionNotFoundError` when there is no such session, or none that its holder sees.

    Args:
        models: that compute.
        store: that keeps the logs.
        settings: with the limits of sessions.

    Attributes:
        snapshots: to be held while a snapshot is in memory, so that many of them cannot fill it.
    """

    def __init__(self, models: Models, store: SessionStore, settings: Settings) -> None:
        self._models = models
        self._store = store
        self._settings = settings
        self._journals: dict[Engine, Journal] = {}
        self._locks = SessionLocks()
        self.snapshots = asyncio.Semaphore(_MAX_SNAPSHOTS)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._beginnings: set[asyncio.Task[TokenStream]] = set()
        models.at_parting(self._part)

    @property
    def max_snapshot_bytes(self) -> int:
        """Size of the largest snapshot that can be restored."""
        return max(largest_size(engine.layers, engine.model.config) for engine in self._models)

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
        for journal in list(self._journals.values()):
            await journal.flush()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._store.close()

    async def create(
        self, holder: Holder, ttl: float | None, model: str | None = None
    ) -> SessionInfo:
        """Make an empty session.

        Args:
            holder: whose it is.
            ttl: seconds after its last use after which it is gone; the server's own limit if None.
            model: that it belongs to; the default one if None.

        Raises:
            ModelNotFoundError: no such model is served.
            TooManySessionsError: there are as many as there may be, or the holder has.
        """
        record = self._new(self._models.get(model).model, self._ttl(ttl), holder)
        await self._create(record, [], holder)
        return SessionInfo(record, PoolUse())

    async def get(self, holder: Holder, id: str, *, with_tokens: bool = False) -> SessionInfo:
        """Look at a session."""
        token_ids = None
        if with_tokens:
            record, token_ids = await self._store.read(id)
        else:
            record = await self._store.get(id)
        _check_seen(record, holder)
        (info,) = await self._describe([record])
        return replace(info, token_ids=token_ids)

    async def page(self, holder: Holder, after: str | None, limit: int) -> list[SessionInfo]:
        """Up to `limit` sessions whose ids come after one, in the order in which they were made."""
        return await self._describe(await self._store.list(after, limit, holder.sees))

    async def delete(self, holder: Holder, id: str) -> None:
        """Remove a session and free what the pool holds of it; ends a request that is in it."""
        record = await self._store.get(id)
        _check_seen(record, holder)
        await self._store.delete(id)
        for engine, journal in self._journals.items():
            for turn in journal.turns:
                if turn.session_id == id:
                    engine.abort(turn.request_id, _deleted(id))
        await self._cool(id, record.fingerprint)

    async def fork(self, holder: Holder, id: str, ttl: float | None) -> SessionInfo:
        """Make a session that goes on from where another is, and shares its memory and its owner.

        Raises:
            SessionBusyError: a request is in it.
            TooManySessionsError: there are as many as there may be, or the holder has.
        """
        await self._lock(id)
        try:
            record, token_ids = await self._store.read(id)
            _check_seen(record, holder)
            if record.busy:
                raise busy(id)
            child = self._child(record, record.ttl if ttl is None else self._ttl(ttl))
            await self._create(child, token_ids, holder)
            if (engine := self._engine_of(record)) is not None:
                await self._call(engine, lambda core: core.scheduler.sessions.fork(id, child.id))
        finally:
            self._locks.release(id)
        (info,) = await self._describe([child])
        return info

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
    ) -> TokenStream:
        """Queue a turn: a request whose prompt and answer become part of a session's log.

        What the stream yields is committed. A turn that ends early leaves what was.

        Args:
            holder: who asks.
            id: of the session.
            source: text, or ids.
            params: what is asked for; one sample.
            wait: whether to wait for a request that is in the session, as long as `params.timeout`
                allows.
            request_id: for the log.
            model: that the session must belong to, if one is named.

        Raises:
            SessionBusyError: a request is in the session, and `wait` is False.
            SessionOfOtherWeightsError: the session cannot go on with the weights that are served,
                or belongs to another model.
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
                        return await self._unbroken(
                            self._begin(holder, id, source, params, request_id, model)
                        )
                    except SessionBusyError:
                        if not wait:
                            raise
                    await asyncio.sleep(_POLL_SECONDS)  # another server has it
        except TimeoutError:
            raise DeadlineExceededError(f"the request took longer than {timeout:g} s") from None

    async def snapshot(self, holder: Holder, id: str) -> tuple[Snapshot, ServedModel]:
        """A session with its memory, which is computed first if it is cold, and its model.

        Raises:
            SessionBusyError: a request is in it.
            SessionEmptyError: there is nothing in it yet.
            SessionOfOtherWeightsError: its memory cannot be computed with these weights.
            OverloadedError: there is no room to compute it now.
        """
        await self._lock(id)
        try:
            record, token_ids = await self._store.read(id)
            _check_seen(record, holder)
            engine = self._engine_for(record)
            if record.busy:
                raise busy(id)
            if not token_ids:
                raise SessionEmptyError(f"session {id} is empty, there is nothing to save")
            held = await self._call(engine, lambda core: core.export_session(id, token_ids))
            if held is None:
                await _warm(engine, Turn(id, token_ids), record.owner)
                held = await self._call(engine, lambda core: core.export_session(id, token_ids))
            if held is None:
                raise OverloadedError("the session's memory was needed by others; try again later")
        finally:
            self._locks.release(id)
        return Snapshot(token_ids, *held), engine.model

    async def restore(self, holder: Holder, id: str, data: bytes) -> tuple[SessionInfo, bool]:
        """Make a session out of a snapshot, or put it in the place of an existing one.

        Returns:
            The session, and whether it is new.

        Raises:
            InvalidSnapshotError: the snapshot cannot be used; nothing is changed.
            SessionFullError: it has more tokens than a session may have.
            SessionBusyError: a request is in the session.
            SessionExistsError: the session in its place is another's.
            TooManySessionsError: there are as many as there may be, or the holder has.
        """
        fingerprint = await asyncio.to_thread(fingerprint_of, data)
        fitting = [one for one in self._models if one.model.fingerprint == fingerprint]
        if fingerprint is not None and not fitting:
            raise InvalidSnapshotError(
                f"the snapshot is of weights {fingerprint:.12}, this server has {self._served()}"
            )
        engine, *_ = [*fitting, self._models.default]  # any can tell that it is no snapshot
        model = engine.model
        snapshot = await asyncio.to_thread(read_snapshot, data, model, engine.layers)
        token_ids, held = snapshot.token_ids, snapshot.token_ids[: snapshot.n_held]
        most = self._settings.max_session_tokens
        if len(token_ids) > most:
            raise SessionFullError(
                f"the snapshot has {len(token_ids)} tokens, a session may have {most}"
            )
        await self._lock(id)
        try:
            record = replace(
                self._new(model, self._settings.session_ttl, holder, id), n_tokens=len(token_ids)
            )
            try:
                known = await self._store.get(id)
            except SessionNotFoundError:
                await self._create(record, token_ids, holder)
                is_new = True
            else:
                if holder.sees not in (None, known.owner):
                    raise exists(id)
                record = replace(
                    record, created_at=known.created_at, ttl=known.ttl, owner=known.owner
                )
                await self._store.replace(record, token_ids)
                is_new = False
                await self._cool(id, known.fingerprint)
            await self._call(engine, lambda core: core.import_session(id, held, snapshot.memory))
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

    async def _create(self, record: SessionRecord, token_ids: Items[int], holder: Holder) -> None:
        # What an admin forks is its owner's, and does not count as the admin's.
        most = holder.max_sessions if record.owner == holder.owner else None
        await self._store.create(record, token_ids, self._settings.max_sessions, most)

    def _new(
        self, model: ServedModel, ttl: float, holder: Holder, id: str | None = None
    ) -> SessionRecord:
        now = time.time()
        id = id or _new_id(now)
        return SessionRecord(
            id, model.name, model.fingerprint, 0, now, now, ttl, owner=holder.owner
        )

    def _child(self, parent: SessionRecord, ttl: float) -> SessionRecord:
        """A new session of the same model and log."""
        now = time.time()
        return replace(parent, id=_new_id(now), created_at=now, used_at=now, ttl=ttl)

    def _engine_of(self, record: SessionRecord) -> Engine | None:
        """The engine that can go on with a session, if there is one."""
        engines = [one for one in self._models if one.model.fingerprint == record.fingerprint]
        return min(engines, key=lambda one: one.model.name != record.model, default=None)

    def _engine_for(self, record: SessionRecord, model: str | None = None) -> Engine:
        """The engine that goes on with a session, which must belong to a model, if one is named.

        Raises:
            SessionOfOtherWeightsError: there is none, or it is of another model.
        """
        engine = self._engine_of(record)
        if engine is None:
            raise SessionOfOtherWeightsError(
                f"session {record.id} belongs to weights {record.fingerprint:.12} "
                f"({record.model}), this server has {self._served()}"
            )
        if model not in (None, record.model, engine.model.name):
            raise SessionOfOtherWeightsError(
                f"session {record.id} belongs to the model {record.model}; leave out 'model', or "
                "make a session of the other one",
                param="model",
            )
        return engine

    def _served(self) -> str:
        """Which weights there are, for people."""
        return ", ".join(f"{one.model.fingerprint:.12} ({one.model.name})" for one in self._models)

    async def _call(self, engine: Engine, work: Callable[[EngineCore], T]) -> T | None:
        """`Engine.call`; None if the engine is unloaded meanwhile, and what was warm is cold."""
        try:
            return await engine.call(work)
        except NotReadyError:
            if self._models.serves(engine):
                raise
            return None

    async def _describe(self, records: list[SessionRecord]) -> list[SessionInfo]:
        warm: dict[Engine, list[str]] = {}
        for record in records:
            if (engine := self._engine_of(record)) is not None:
                warm.setdefault(engine, []).append(record.id)
        found: dict[str, tuple[PoolUse, int]] = {}
        for engine, ids in warm.items():
            uses = await self._call(engine, functools.partial(_uses, ids))
            for id, use in zip(ids, uses or (), strict=uses is not None):
                n_pages = use.pages_own + use.pages_shared
                found[id] = use, n_pages * engine.bytes_per_page
        return [
            SessionInfo(
                replace(record, busy=record.busy or record.id in self._locks),
                *found.get(record.id, (PoolUse(), 0)),
            )
            for record in records
        ]

    async def _begin(
        self,
        holder: Holder,
        id: str,
        source: str | Items[int],
        params: GenerationParams,
        request_id: str,
        model: str | None,
    ) -> TokenStream:
        """Begin a turn of a session that is locked; whatever ends the turn unlocks it."""
        unlock = contextlib.ExitStack()
        unlock.callback(self._locks.release, id)
        with unlock:
            record, token_ids = await self._store.read(id)
            _check_seen(record, holder)
            engine = self._engine_for(record, model)
            if not source and not token_ids:
                raise SessionEmptyError(
                    f"session {id} is empty, there is nothing to go on from", param="prompt"
                )
            ticket = engine.admit(source, params, Turn(id, token_ids), owner=record.owner)
            journal = self._journal_of(engine)
            try:
                await self._store.begin(id, len(token_ids), ticket.prompt)
            except BaseException:
                engine.withdraw(ticket)
                raise
            n_tokens = len(token_ids) + len(ticket.prompt)
            turn = JournaledTurn(ticket.id, id, n_tokens, unlock.pop_all().close)
            journal.open(turn)
            stream = engine.enqueue(ticket, request_id=request_id, journal=journal)
            stream.turn = turn
            return stream

    async def _lock(self, id: str, *, wait: bool = False) -> None:
        """Take a session for this request; `self._locks.release` it afterwards."""
        for journal in list(self._journals.values()):
            await journal.settle(id)
        await self._locks.acquire(id, wait=wait)

    async def _unbroken(self, work: Coroutine[Any, Any, TokenStream]) -> TokenStream:
        """Let the beginning of a turn come to its end, even if nobody waits for it any more."""
        task = self._spawn(work)
        self._beginnings.add(task)
        task.add_done_callback(self._beginnings.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._abandon)
            raise

    def _abandon(self, task: asyncio.Task[TokenStream]) -> None:
        if not task.cancelled() and task.exception() is None:
            for engine in self._journals:  # one of which has it
                engine.abort(task.result().id)

    def _journal_of(self, engine: Engine) -> Journal:
        if engine not in self._journals:
            self._journals[engine] = engine.open_journal(self._store)
        return self._journals[engine]

    async def _part(self, engine: Engine) -> None:
        """Commit what is still to be of the turns of an engine that has ended, and forget it."""
        if self._beginnings:  # which may have been admitted by it
            await asyncio.wait(set(self._beginnings))
        if (journal := self._journals.get(engine)) is not None:
            await journal.flush()
            del self._journals[engine]

    async def _cool(self, id: str, fingerprint: str) -> None:
        """Have the engines of these weights give up what they hold of a session."""
        for engine in self._models:
            if engine.model.fingerprint == fingerprint:
                await self._call(engine, lambda core: core.scheduler.sessions.drop(id))

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
        journals = self._journals.values()
        await self._store.renew([turn.session_id for one in journals for turn in one.turns])

    async def _sweep(self) -> None:
        """Remove expired sessions, and what the pools hold of those that are gone."""
        await self._store.sweep()
        for engine in self._models:
            with contextlib.suppress(NotReadyError):  # of one that is stuck or dead
                ids = await self._call(engine, lambda core: core.scheduler.sessions.ids)
                await self._forget_gone(engine, ids or [])

    async def _forget_gone(self, engine: Engine, ids: list[str]) -> None:
        for id in ids:
            try:
                await self._store.get(id)
            except SessionNotFoundError:
                if id not in self._locks:
                    await self._cool(id, engine.model.fingerprint)


def _check_seen(record: SessionRecord, holder: Holder) -> None:
    """Raise `SessionNotFoundError` for another's session, as if there were none."""
    if holder.sees not in (None, record.owner):
        raise not_found(record.id)


async def _warm(engine: Engine, turn: Turn, owner: str) -> None:
    """Compute the memory of a session, which is locked, without adding to it."""
    params = GenerationParams(max_tokens=0, mode="raw")
    async with engine.enqueue(engine.admit([], params, turn, owner=owner)) as stream:
        async for _ in stream:
            pass


def _uses(ids: list[str], core: EngineCore) -> list[PoolUse]:
    """What the pool has of each session."""
    return [core.scheduler.session_use(id) for id in ids]


def _new_id(now: float) -> str:
    """An id; they sort by time."""
    return f"ses-{int(now * 1e6):014x}{secrets.token_hex(9)}"


def _deleted(id: str) -> SessionNotFoundError:
    return SessionNotFoundError(f"session {id} was deleted")
