"""What every store promises of sessions that expire, and of turns that are not renewed."""

import asyncio
import time

import pytest

from causalrn.server.errors import SessionBusyError
from causalrn.server.sessions.store.base import Append
from tests.server.in_loop import in_loop
from tests.server.sessions.store.stores import (
    NO_LIMIT,
    added,
    assert_missing,
    end,
    log_of,
    opened,
    record,
)


@in_loop
async def test_expired_sessions_do_not_exist(url: str) -> None:
    async with opened(url) as store:
        kept = await added(store, 1)
        old = record(used_at=time.time() - 100, ttl=99)
        await store.create(old, [1, 2], NO_LIMIT)
        await assert_missing(store, old.id)
        assert [one.id for one in await store.list(None, 10)] == [kept]
        assert await store.count() == 1
        await store.create(record(), [], limit=2)  # does not count
        await store.create(record(id=old.id), [3], NO_LIMIT)  # its id is free
        assert await log_of(store, old.id) == [3]


@in_loop
async def test_a_turn_puts_expiry_off(url: str) -> None:
    async with opened(url) as store:
        used, unused = [await added(store, 1, ttl=1.5) for _ in range(2)]
        await store.begin(used, 1, [2])
        await asyncio.sleep(1.6)
        await assert_missing(store, unused)
        assert (await store.get(used)).busy
        assert await store.sweep() == 1
        await end(store, used, 2, 3)
        assert await log_of(store, used) == [1, 2, 3]
        await asyncio.sleep(1.6)
        await assert_missing(store, used)
        assert await store.sweep() == 1
        assert await store.sweep() == 0


@in_loop
async def test_a_sweep_removes_every_expired_session(url: str) -> None:
    async with opened(url) as store:
        kept = [await added(store, *range(300)) for _ in range(3)]
        for _ in range(100):
            old = record(used_at=time.time() - 100, ttl=1)
            await store.create(old, range(300), NO_LIMIT)
        assert await store.sweep() == 100
        assert [one.id for one in await store.list(None, 200)] == kept
        assert await log_of(store, kept[0]) == list(range(300))


@in_loop
async def test_a_turn_that_is_not_renewed_may_be_taken_over(url: str) -> None:
    async with opened(url, lease_seconds=0.5) as store:
        taken, free = [await added(store, 1) for _ in range(2)]
        await store.begin(taken, 1, [2])
        await store.begin(free, 1, [2])
        await asyncio.sleep(0.6)
        assert not (await store.get(taken)).busy
        await store.begin(taken, 2, [3])
        # Nobody wanted this one, so nothing is lost.
        assert await store.append([Append(free, 2, [3], done=True)]) == [None]


@in_loop
async def test_a_renewed_turn_is_neither_taken_over_nor_expired(url: str) -> None:
    async with opened(url, lease_seconds=1.5) as store:
        id = await added(store, 1, ttl=1.0)
        await store.begin(id, 1, [2])
        for _ in range(8):  # far more often than needed: a busy machine may be late
            await asyncio.sleep(0.2)
            await store.renew([id, "ses-unknown"])
        assert (await store.get(id)).busy
        with pytest.raises(SessionBusyError):
            await store.begin(id, 2, [])
        await asyncio.sleep(1.6)  # the server vanishes
        await assert_missing(store, id)
        await store.renew([id])
        await assert_missing(store, id)
        assert await store.sweep() == 1
