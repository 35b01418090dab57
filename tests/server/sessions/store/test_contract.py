"""What every store promises, line by line, with SQLite files and a PostgreSQL server."""

import asyncio
import math
import time
from dataclasses import replace

import pytest

from server.errors import (
    SessionBusyError,
    SessionExistsError,
    SessionNotFoundError,
    StoreUnavailableError,
    TooManySessionsError,
)
from server.sessions.store.base import Append, SessionStore
from server.sessions.store.open_store import open_store
from tests.server.sessions.store.stores import (
    NO_LIMIT,
    added,
    end,
    in_loop,
    log_of,
    opened,
    record,
)

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
async def test_an_empty_log(url: str) -> None:
    async with opened(url) as store:
        id = await added(store)
        assert await log_of(store, id) == []
        await store.begin(id, 0, [])
        await end(store, id, 0)
        assert await log_of(store, id) == []


@in_loop
async def test_turns_append(url: str) -> None:
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
async def test_the_limit(url: str) -> None:
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
async def test_a_race_for_the_last_places(url: str) -> None:
    async with opened(url) as store:
        results = await asyncio.gather(
            *(store.create(record(), [1], limit=5) for _ in range(20)), return_exceptions=True
        )
        assert results.count(None) == 5
        assert sum(isinstance(result, TooManySessionsError) for result in results) == 15
        assert await store.count() == 5


@in_loop
async def test_a_race_for_an_id(url: str) -> None:
    async with opened(url) as store:
        new = record()
        results = await asyncio.gather(
            *(store.create(new, [i], NO_LIMIT) for i in range(10)), return_exceptions=True
        )
        assert results.count(None) == 1
        assert sum(isinstance(result, SessionExistsError) for result in results) == 9
        assert await log_of(store, new.id) == [results.index(None)]


@in_loop
async def test_a_race_for_a_turn(url: str) -> None:
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
async def test_replacing(url: str) -> None:
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
async def test_deleting(url: str) -> None:
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
async def test_paging(url: str) -> None:
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
async def test_sweeping_many(url: str) -> None:
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
async def test_renewing(url: str) -> None:
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


@pytest.mark.parametrize("n", [255, 256, 257, 511, 512, 513])
@in_loop
async def test_logs_at_the_edges_of_blocks(url: str, n: int) -> None:
    async with opened(url) as store:
        id = await added(store, *range(n))
        await store.begin(id, n, [1])
        await end(store, id, n + 1, *range(256))
        assert await log_of(store, id) == [*range(n), 1, *range(256)]


@in_loop
async def test_big_logs(url: str) -> None:
    n = 20_000
    token_ids = [i * 7919 % 2**32 for i in range(n)]
    async with opened(url) as store:
        id = await added(store, *token_ids)
        await store.begin(id, n, token_ids)
        await end(store, id, 2 * n)
        assert await log_of(store, id) == token_ids * 2


@in_loop
async def test_a_big_log_token_by_token(url: str) -> None:
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


@in_loop
async def test_conversations_side_by_side(url: str) -> None:
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


@in_loop
async def test_closing_in_the_middle(url: str) -> None:
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


async def assert_missing(store: SessionStore, id: str) -> None:
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
