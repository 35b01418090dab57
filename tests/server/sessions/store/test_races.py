"""What every store promises to callers at the same time, whatever it is kept in."""

import asyncio
import math

import pytest

from causalrn.server.errors import SessionBusyError, SessionExistsError, TooManySessionsError
from causalrn.server.sessions.store.base import Append
from tests.server.in_loop import in_loop
from tests.server.sessions.store.stores import NO_LIMIT, added, end, log_of, opened, record


@in_loop
async def test_of_many_creations_as_many_succeed_as_there_are_places(url: str) -> None:
    async with opened(url) as store:
        results = await asyncio.gather(
            *(store.create(record(), [1], limit=5) for _ in range(20)), return_exceptions=True
        )
        assert results.count(None) == 5
        assert sum(isinstance(result, TooManySessionsError) for result in results) == 15
        assert await store.count() == 5


@in_loop
async def test_of_many_creations_of_one_id_one_succeeds(url: str) -> None:
    async with opened(url) as store:
        new = record()
        results = await asyncio.gather(
            *(store.create(new, [i], NO_LIMIT) for i in range(10)), return_exceptions=True
        )
        assert results.count(None) == 1
        assert sum(isinstance(result, SessionExistsError) for result in results) == 9
        assert await log_of(store, new.id) == [results.index(None)]


@in_loop
async def test_of_many_turns_that_begin_at_once_one_succeeds(url: str) -> None:
    async with opened(url) as store:
        for _ in range(5):
            id = await added(store)
            results = await asyncio.gather(
                *(store.begin(id, 0, [i]) for i in range(10)), return_exceptions=True
            )
            assert results.count(None) == 1
            assert sum(isinstance(result, SessionBusyError) for result in results) == 9
            assert await log_of(store, id) == [results.index(None)]


@in_loop
async def test_turns_of_several_callers_never_mix(url: str) -> None:
    async with opened(url) as store:
        ids = [await added(store) for _ in range(4)]

        async def talk(id: str, who: int) -> None:
            for turn in range(5):
                mine = [who, turn] * 70
                while True:
                    start = (await store.get(id)).n_tokens
                    try:
                        await store.begin(id, start, mine)
                    except SessionBusyError:
                        await asyncio.sleep(0.001)
                    else:
                        break
                await end(store, id, start + len(mine), *mine)

        await asyncio.gather(*(talk(id, who) for id in ids for who in range(3)))
        for id in ids:
            token_ids = await log_of(store, id)
            turns = [tuple(token_ids[at : at + 280]) for at in range(0, len(token_ids), 280)]
            assert sorted(turns) == sorted((w, t) * 140 for w in range(3) for t in range(5))


@in_loop
async def test_reads_are_of_one_moment(url: str) -> None:
    async with opened(url) as store:
        id = await added(store)
        await store.begin(id, 0, [])
        done = asyncio.Event()

        async def read() -> None:
            while not done.is_set():
                token_ids = await log_of(store, id)  # neither shorter than it says, nor damaged
                assert token_ids == list(range(len(token_ids)))

        async def write() -> None:
            n = 0
            for size in range(1, 60):
                await store.append([Append(id, n, range(n, n + size), done=False)])
                n += size
            done.set()

        await asyncio.gather(write(), read(), read())


@in_loop
async def test_cancelled_calls_are_made_whole_or_not_at_all(url: str) -> None:
    async with opened(url) as store:
        for step in range(30):
            id = await added(store, 1)
            task = asyncio.create_task(store.begin(id, 1, [2] * 300))
            await asyncio.sleep(step * 0.0002 * math.sqrt(step))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if not task.cancelled():  # it was faster
                await end(store, id, 301)
            token_ids = await log_of(store, id)
            assert token_ids in ([1], [1] + [2] * 300)
            # It may take a moment until the session is given back.
            for _ in range(200):
                try:
                    await store.begin(id, len(await log_of(store, id)), [3])
                    break
                except SessionBusyError:
                    await asyncio.sleep(0.01)
            else:
                pytest.fail("the session was not given back")
            start = len(await log_of(store, id))
            appending = asyncio.create_task(store.append([Append(id, start, [4], done=True)]))
            await asyncio.sleep(step * 0.0001)
            appending.cancel()
            await asyncio.gather(appending, return_exceptions=True)
            assert (await log_of(store, id))[start:] in ([], [4])
