"""What every store promises of logs, however long, whatever it is kept in."""

import pytest

from causalrn.server.sessions.store.base import Append
from tests.server.in_loop import in_loop
from tests.server.sessions.store.stores import added, end, log_of, opened


@in_loop
async def test_a_log_may_stay_empty(url: str) -> None:
    async with opened(url) as store:
        id = await added(store)
        assert await log_of(store, id) == []
        await store.begin(id, 0, [])
        await end(store, id, 0)
        assert await log_of(store, id) == []


@pytest.mark.parametrize("n", [255, 256, 257, 511, 512, 513])
@in_loop
async def test_logs_may_end_anywhere_in_a_block(url: str, n: int) -> None:
    async with opened(url) as store:
        id = await added(store, *range(n))
        await store.begin(id, n, [1])
        await end(store, id, n + 1, *range(256))
        assert await log_of(store, id) == [*range(n), 1, *range(256)]


@in_loop
async def test_big_logs_are_kept_whole(url: str) -> None:
    n = 20_000
    token_ids = [i * 7919 % 2**32 for i in range(n)]
    async with opened(url) as store:
        id = await added(store, *token_ids)
        await store.begin(id, n, token_ids)
        await end(store, id, 2 * n)
        assert await log_of(store, id) == token_ids * 2


@in_loop
async def test_a_big_log_is_kept_whole_though_it_came_token_by_token(url: str) -> None:
    n, per_commit = 20_000, 500  # each token by itself, but not each in a commit by itself
    token_ids = [i * 7919 % 2**32 for i in range(n)]
    async with opened(url) as store:
        id = await added(store)
        await store.begin(id, 0, [])
        for at in range(0, n, per_commit):
            appends = [
                Append(id, i, [token_ids[i]], done=i == n - 1) for i in range(at, at + per_commit)
            ]
            assert await store.append(appends) == [None] * per_commit
        assert await log_of(store, id) == token_ids
