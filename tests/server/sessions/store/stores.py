"""What the tests of stores share."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from causalrn.server.errors import SessionNotFoundError, StoreUnavailableError
from causalrn.server.sessions.store.base import Append, SessionRecord, SessionStore
from causalrn.server.sessions.store.open_store import open_store

NO_LIMIT = 1_000_000
_numbers = count(1)

STRANGE_IDS = [
    "",
    "ses-",
    "nul\0",
    "\udcff",
    "ses-é",
    "'; DROP TABLE sessions; --",
    "%s",
    "x" * 9999,
]


@asynccontextmanager
async def opened(url: str, lease_seconds: float = 60.0) -> AsyncIterator[SessionStore]:
    store = open_store(url, lease_seconds=lease_seconds)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def record(ttl: float = 3600.0, **changes: Any) -> SessionRecord:
    """A new session's; ids sort in the order of the calls."""
    now = time.time()
    new = SessionRecord(
        f"ses-{next(_numbers):032x}", "copy-bytes", "5e" * 32, 0, now, now, ttl, busy=False
    )
    return replace(new, **changes)


async def added(store: SessionStore, *token_ids: int, ttl: float = 3600.0) -> str:
    """The id of a new session."""
    new = record(ttl)
    await store.create(new, token_ids, NO_LIMIT)
    return new.id


async def log_of(store: SessionStore, id: str) -> list[int]:
    found, token_ids = await store.read(id)
    assert found.n_tokens == len(token_ids)
    return token_ids


async def end(store: SessionStore, id: str, start: int, *token_ids: int) -> None:
    """End a turn."""
    assert await store.append([Append(id, start, token_ids, done=True)]) == [None]


async def until_works(call: Callable[[], Coroutine[Any, Any, object]], seconds: float = 10) -> None:
    """Call again and again, as clients do, until the store is available."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            await call()
            return
        except StoreUnavailableError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def assert_refused(url: str, reason: str) -> None:
    """No store can be opened there, however often it is tried."""
    store = open_store(url, lease_seconds=60)
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match=reason):
            await store.open()
        with pytest.raises(StoreUnavailableError, match=reason):
            await store.create(record(), [1], NO_LIMIT)
    await store.close()


async def assert_missing(store: SessionStore, id: str) -> None:
    """There is no such session, whatever is done with it."""
    with pytest.raises(SessionNotFoundError):
        await store.get(id)
    with pytest.raises(SessionNotFoundError):
        await store.read(id)
    with pytest.raises(SessionNotFoundError):
        await store.begin(id, 2, [])
    with pytest.raises(SessionNotFoundError):
        await store.replace(record(id=id), [])
    with pytest.raises(SessionNotFoundError):
        await store.delete(id)
    (outcome,) = await store.append([Append(id, 2, [], done=False)])
    assert isinstance(outcome, SessionNotFoundError)
    assert id not in [one.id for one in await store.list(None, 1000)]


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The levels of what the server logged."""
    return [line.levelname for line in caplog.records if line.name.startswith("causalrn.")]
