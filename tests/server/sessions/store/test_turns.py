"""What every store promises of turns and what they append, whatever it is kept in."""

import asyncio

import pytest

from causalrn.server.errors import SessionBusyError, SessionNotFoundError
from causalrn.server.sessions.store.base import Append
from tests.server.in_loop import in_loop
from tests.server.sessions.store.stores import added, end, log_of, opened, record


@in_loop
async def test_a_turn_appends_to_the_log(url: str) -> None:
    async with opened(url) as store:
        id = await added(store, 1, 2)
        before = await store.get(id)
        await store.begin(id, 2, [3, 4])
        during = await store.get(id)
        assert (during.busy, during.n_tokens) == (True, 4)
        assert during.used_at > before.used_at
        assert await store.append([Append(id, 4, [5], done=False)]) == [None]
        assert await store.append([Append(id, 5, [], done=False)]) == [None]
        assert (await store.get(id)).used_at == during.used_at
        await end(store, id, 5, 6, 7)
        after = await store.get(id)
        assert (after.busy, after.n_tokens) == (False, 7)
        assert after.used_at > during.used_at
        assert await log_of(store, id) == [1, 2, 3, 4, 5, 6, 7]
        await store.begin(id, 7, [])


@in_loop
async def test_one_turn_at_a_time(url: str) -> None:
    async with opened(url) as store:
        id = await added(store, 1)
        await store.begin(id, 1, [2])
        with pytest.raises(SessionBusyError, match="is busy with another request"):
            await store.begin(id, 2, [9])
        with pytest.raises(SessionBusyError):
            await store.begin(id, 1, [9])
        with pytest.raises(SessionBusyError):
            await store.replace(record(id=id), [9])
        assert await log_of(store, id) == [1, 2]


@in_loop
async def test_a_log_of_another_length_is_not_begun(url: str) -> None:
    async with opened(url) as store:
        id = await added(store, 1, 2)
        for start in (0, 1, 3):
            with pytest.raises(SessionBusyError, match=f"has 2 tokens by now, and not {start}"):
                await store.begin(id, start, [9])
        assert not (await store.get(id)).busy
        assert await log_of(store, id) == [1, 2]


@in_loop
async def test_each_append_fails_alone(url: str) -> None:
    async with opened(url) as store:
        good, also_good, longer, idle, deleted = [await added(store, 1) for _ in range(5)]
        for id in (good, also_good, longer, deleted):
            await store.begin(id, 1, [2])
        await store.delete(deleted)
        outcomes = await store.append(
            [
                Append(good, 2, [3], done=False),
                Append(longer, 1, [9], done=True),
                Append(idle, 1, [9], done=False),
                Append(deleted, 2, [9], done=False),
                Append("ses-unknown", 0, [9], done=False),
                Append("nul\0", 0, [9], done=False),
                Append(also_good, 2, [3, 4], done=True),
            ]
        )
        assert [type(outcome) for outcome in outcomes] == [
            type(None),
            SessionBusyError,
            SessionBusyError,
            SessionNotFoundError,
            SessionNotFoundError,
            SessionNotFoundError,
            type(None),
        ]
        assert await log_of(store, good) == [1, 2, 3]
        assert await log_of(store, longer) == [1, 2]
        assert (await store.get(longer)).busy  # its turn is not over
        assert await log_of(store, idle) == [1]
        assert await log_of(store, also_good) == [1, 2, 3, 4]
        assert await store.append([]) == []


@in_loop
async def test_one_session_twice_in_one_append(url: str) -> None:
    async with opened(url) as store:
        id = await added(store, 1)
        await store.begin(id, 1, [])
        outcomes = await store.append(
            [
                Append(id, 1, [2], done=False),
                Append(id, 1, [9], done=False),
                Append(id, 2, [3] * 300, done=True),
                Append(id, 302, [9], done=False),
            ]
        )
        assert [type(outcome) for outcome in outcomes] == [
            type(None),
            SessionBusyError,
            type(None),
            SessionBusyError,
        ]
        assert await log_of(store, id) == [1, 2, *[3] * 300]


@in_loop
async def test_many_sessions_in_one_append(url: str) -> None:
    async with opened(url) as store:
        ids = [await added(store) for _ in range(64)]
        await asyncio.gather(*(store.begin(id, 0, [i]) for i, id in enumerate(ids)))
        for n in range(1, 6):
            appends = [Append(id, n, [n], done=n == 5) for id in ids]
            assert await store.append(appends) == [None] * 64
        for i, id in enumerate(ids):
            assert await log_of(store, id) == [i, 1, 2, 3, 4, 5]
