"""What every store promises of the sessions in it, whatever it is kept in."""

import time
from dataclasses import replace

import pytest

from causalrn.server.errors import SessionExistsError, SessionNotFoundError, TooManySessionsError
from tests.server.in_loop import in_loop
from tests.server.sessions.store.stores import (
    NO_LIMIT,
    STRANGE_IDS,
    added,
    end,
    log_of,
    opened,
    record,
)


@in_loop
async def test_a_session_is_what_was_created(url: str) -> None:
    async with opened(url) as store:
        new = record(created_at=1234.000001, used_at=time.time() - 0.1)
        await store.create(new, [7, 0, 2**32 - 1], NO_LIMIT)
        expected = replace(new, n_tokens=3)
        assert await store.get(new.id) == expected
        assert await store.read(new.id) == (expected, [7, 0, 2**32 - 1])
        assert await store.list(None, 10) == [expected]
        assert await store.count() == 1


@in_loop
async def test_unknown_ids_are_not_found(url: str) -> None:
    async with opened(url) as store:
        id = await added(store, 1)
        for unknown in (*STRANGE_IDS, id[:-1], id.upper()):
            with pytest.raises(SessionNotFoundError):
                await store.get(unknown)
            with pytest.raises(SessionNotFoundError):
                await store.read(unknown)
            with pytest.raises(SessionNotFoundError):
                await store.begin(unknown, 0, [1])
            with pytest.raises(SessionNotFoundError):
                await store.replace(record(id=unknown), [1])
            with pytest.raises(SessionNotFoundError):
                await store.delete(unknown)
            await store.renew([unknown])
        assert await log_of(store, id) == [1]


@in_loop
async def test_an_id_is_taken_once(url: str) -> None:
    async with opened(url) as store:
        id = await added(store, 1)
        with pytest.raises(SessionExistsError, match=id):
            await store.create(record(id=id), [2], NO_LIMIT)
        assert await log_of(store, id) == [1]


@in_loop
async def test_no_more_sessions_are_created_than_the_limit(url: str) -> None:
    async with opened(url) as store:
        first, *_ = [await added(store) for _ in range(3)]
        with pytest.raises(TooManySessionsError, match="3 sessions"):
            await store.create(record(), [], limit=3)
        assert await store.count() == 3
        await store.delete(first)
        await store.create(record(), [], limit=3)
        with pytest.raises(TooManySessionsError):
            await store.create(record(), [], limit=0)


@in_loop
async def test_a_replaced_session_has_the_new_log(url: str) -> None:
    async with opened(url) as store:
        for old in (0, 1, 700):
            id = await added(store, *range(old))
            before = await store.get(id)
            other = record(id=id, model="other", fingerprint="0f" * 32, ttl=99.5, created_at=5.0)
            await store.replace(other, [4] * 300)
            after = await store.get(id)
            assert after == replace(
                before,
                model="other",
                fingerprint="0f" * 32,
                ttl=99.5,
                n_tokens=300,
                used_at=after.used_at,
            )
            assert after.used_at > before.used_at
            assert await log_of(store, id) == [4] * 300
            await store.begin(id, 300, [5])
            await end(store, id, 301)
            await store.replace(before, [])
            assert await log_of(store, id) == []


@in_loop
async def test_a_deleted_session_leaves_nothing(url: str) -> None:
    async with opened(url) as store:
        kept, idle, busy = [await added(store, *range(600)) for _ in range(3)]
        await store.begin(busy, 600, [1])
        for id in (idle, busy):
            await store.delete(id)
            with pytest.raises(SessionNotFoundError):
                await store.get(id)
            with pytest.raises(SessionNotFoundError):
                await store.delete(id)
        assert await store.count() == 1
        await store.create(record(id=busy), [7], NO_LIMIT)  # nothing is left of the log or the turn
        assert await log_of(store, busy) == [7]
        await store.begin(busy, 1, [8])
        assert await log_of(store, kept) == list(range(600))


@in_loop
async def test_sessions_are_listed_page_by_page(url: str) -> None:
    async with opened(url) as store:
        ids = [await added(store) for _ in range(25)]
        await store.begin(ids[3], 0, [1])
        await store.delete(ids.pop(11))
        listed, after = [], None
        while page := await store.list(after, 7):
            assert len(page) <= 7
            listed += page
            after = page[-1].id
        assert [one.id for one in listed] == ids
        assert [one.busy for one in listed] == [i == 3 for i in range(24)]
        assert await store.list(ids[4], 0) == []
        assert [one.id for one in await store.list(ids[4] + "0", 1)] == [ids[5]]
        assert [one.id for one in await store.list("", 2)] == ids[:2]
        for strange in STRANGE_IDS[2:]:
            assert len(await store.list(strange, 100)) <= 24


@in_loop
async def test_ids_are_in_the_order_of_their_bytes(url: str) -> None:
    async with opened(url) as store:
        ids = ["ses-0", "ses-9", "ses-B", "ses-_", "ses-a", "ses_0", "set"]  # no language's order
        for id in reversed(ids):
            await store.create(record(id=id), [], NO_LIMIT)
        assert [one.id for one in await store.list(None, 100)] == ids
        assert [one.id for one in await store.list("ses-B", 2)] == ["ses-_", "ses-a"]
