"""What every store promises when it is opened and closed, whatever it is kept in."""

import asyncio

import pytest

from causalrn.server.errors import StoreUnavailableError
from causalrn.server.sessions.store.base import Append
from causalrn.server.sessions.store.open_store import open_store
from tests.server.in_loop import in_loop
from tests.server.sessions.store.stores import added, log_of, opened


@in_loop
async def test_closing_gives_sessions_up(url: str) -> None:
    async with opened(url) as store:
        id = await added(store, 1)
        await store.begin(id, 1, [2])
        before = await store.get(id)
    await store.close()
    for call in (store.count(), store.append([Append(id, 2, [3], done=True)]), store.get(id)):
        with pytest.raises(StoreUnavailableError, match="closed"):
            await call
    async with opened(url) as other:
        after = await other.get(id)
        assert not after.busy
        assert after.used_at > before.used_at
        await other.begin(id, 2, [3])
    await store.open()  # once more
    assert await log_of(store, id) == [1, 2, 3]
    await store.close()


@in_loop
async def test_opening_is_not_required(url: str) -> None:
    store = open_store(url, lease_seconds=1)
    id = await added(store, 1)
    assert await log_of(store, id) == [1]
    await store.close()
    await open_store(url, lease_seconds=1).close()


@in_loop
async def test_closing_gives_up_turns_that_are_just_beginning(url: str) -> None:
    store = open_store(url, lease_seconds=60)
    ids = [await added(store) for _ in range(5)]
    tasks = [asyncio.create_task(store.begin(id, 0, [1])) for id in ids]
    tasks += [asyncio.create_task(store.begin(id, 0, [1])) for id in ids]
    await asyncio.sleep(0)
    for task in tasks[::3]:
        task.cancel()
    await store.close()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with opened(url) as other:
        for id in ids:
            await other.begin(id, len(await log_of(other, id)), [2])
            assert await log_of(other, id) in ([2], [1, 2])
