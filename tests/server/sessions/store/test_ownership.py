"""Whose a session is."""

import asyncio
from dataclasses import replace

import pytest

from causalrn.server.errors import TooManySessionsError
from tests.server.in_loop import in_loop
from tests.server.sessions.store.stores import NO_LIMIT, end, opened, record


@in_loop
async def test_a_session_keeps_its_owner(url: str) -> None:
    mine, nobodys = record(owner="alice"), record()
    async with opened(url) as store:
        await store.create(mine, [1], NO_LIMIT)
        await store.create(nobodys, [2], NO_LIMIT)
        await store.begin(mine.id, 1, [5])
        await end(store, mine.id, 2, 6)
        await store.replace(replace(mine, owner="mallory"), [7])
    async with opened(url) as store:
        assert (await store.get(mine.id)).owner == "alice"
        assert (await store.read(mine.id))[0].owner == "alice"
        assert [one.owner for one in await store.list(None, 10)] == ["alice", ""]


@in_loop
async def test_the_sessions_of_one_owner(url: str) -> None:
    names = ["alice", "bob", "", "alice", "o'hara; --", "alice"]
    async with opened(url) as store:
        ids = []
        for name in names:
            new = record(owner=name)
            ids.append(new.id)
            await store.create(new, [], NO_LIMIT)
        expired = record(owner="alice", used_at=0.0)
        await store.create(expired, [], NO_LIMIT)
        for name in {*names, "nobody"}:
            own = [id for id, owner in zip(ids, names, strict=True) if owner == name]
            assert [one.id for one in await store.list(None, 10, owner=name)] == own
            assert await store.count(name) == len(own)
        assert [one.id for one in await store.list(ids[0], 1, "alice")] == [ids[3]]
        assert len(await store.list(None, 10)) == await store.count() == 6


@in_loop
async def test_the_limit_of_an_owner(url: str) -> None:
    async with opened(url) as store:
        for _ in range(2):
            await store.create(record(owner="alice"), [], NO_LIMIT, owner_limit=2)
        with pytest.raises(TooManySessionsError, match="the key 'alice' has 2 sessions"):
            await store.create(record(owner="alice"), [], NO_LIMIT, owner_limit=2)
        await store.create(record(owner="bob"), [], NO_LIMIT, owner_limit=2)
        with pytest.raises(TooManySessionsError, match="there are 3 sessions"):
            await store.create(record(owner="bob"), [], limit=3, owner_limit=2)
        await store.delete((await store.list(None, 1, "alice"))[0].id)
        await store.create(record(owner="alice"), [], NO_LIMIT, owner_limit=2)


@in_loop
async def test_a_race_for_an_owners_last_places(url: str) -> None:
    async with opened(url) as store:
        results = await asyncio.gather(
            *(store.create(record(owner="a"), [1], NO_LIMIT, owner_limit=5) for _ in range(20)),
            return_exceptions=True,
        )
        assert results.count(None) == await store.count("a") == 5
        assert sum(isinstance(result, TooManySessionsError) for result in results) == 15
