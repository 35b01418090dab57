"""Several servers over one PostgreSQL database: a session is one turn's at a time."""

import asyncio

import psycopg
import pytest

from causalrn.server.errors import SessionBusyError, TooManySessionsError
from causalrn.server.sessions.store.base import Append, SessionStore
from causalrn.server.sessions.store.open_store import open_store
from tests.server.in_loop import in_loop
from tests.server.sessions.store.postgres_server import until_it_waits_for_a_lock
from tests.server.sessions.store.stores import added, end, log_of, opened, record


async def end_leases(url: str) -> None:
    """As if nobody had been heard of for so long; to wait for it would be a race on a busy machine.

    That leases end by themselves is in `test_expiry`.
    """
    async with await psycopg.AsyncConnection.connect(url) as admin:
        await admin.execute("UPDATE causalrn_sessions SET lease_until = 0")


@in_loop
async def test_a_session_is_one_servers_at_a_time(postgres_url: str) -> None:
    async with opened(postgres_url) as one, opened(postgres_url) as other:
        id = await added(one, 1)
        await one.begin(id, 1, [2])
        assert (await other.get(id)).busy
        with pytest.raises(SessionBusyError):
            await other.begin(id, 2, [9])
        with pytest.raises(SessionBusyError):
            await other.replace(record(id=id), [9])
        (outcome,) = await other.append([Append(id, 2, [9], done=True)])
        assert isinstance(outcome, SessionBusyError)
        await other.renew([id])
        await end(one, id, 2, 3)
        await other.begin(id, 3, [4])
        (outcome,) = await one.append([Append(id, 4, [9], done=True)])
        assert isinstance(outcome, SessionBusyError)
        await other.close()
        await one.begin(id, 4, [5])
        assert await log_of(one, id) == [1, 2, 3, 4, 5]


@in_loop
async def test_a_server_that_vanished_is_fenced_off(postgres_url: str) -> None:
    async with (
        opened(postgres_url) as old,
        opened(postgres_url) as new,
    ):
        id = await added(old, 1)
        await old.begin(id, 1, [2])
        with pytest.raises(SessionBusyError):
            await new.begin(id, 2, [])
        await end_leases(postgres_url)
        await new.begin(id, 2, [])  # the length is the same: only the lease tells them apart
        await old.renew([id])
        for done in (False, True):
            (outcome,) = await old.append([Append(id, 2, [9], done)])
            assert isinstance(outcome, SessionBusyError)
        with pytest.raises(SessionBusyError):
            await old.begin(id, 2, [9])
        await old.close()
        await end(new, id, 2, 3)
        assert await log_of(new, id) == [1, 2, 3]


@in_loop
async def test_renewing_keeps_others_off(postgres_url: str) -> None:
    async with (
        opened(postgres_url) as one,
        opened(postgres_url) as other,
    ):
        id = await added(one, 1)
        await one.begin(id, 1, [])
        for _ in range(2):
            await end_leases(postgres_url)  # just now, and nobody took the session yet
            await one.renew([id])
            with pytest.raises(SessionBusyError):
                await other.begin(id, 1, [])
        await end(one, id, 1)


@in_loop
async def test_a_turn_that_was_cancelled_is_free_for_others(postgres_url: str) -> None:
    async with opened(postgres_url) as one, opened(postgres_url) as other:
        id = await added(one, 1)
        async with await psycopg.AsyncConnection.connect(postgres_url) as admin:
            await admin.execute("SELECT 1 FROM causalrn_sessions FOR UPDATE")
            begin = asyncio.create_task(one.begin(id, 1, [2]))
            await until_it_waits_for_a_lock(postgres_url)
            begin.cancel()
            with pytest.raises(asyncio.CancelledError):
                await begin
        # It is committed only now, and given back without waiting for its lease or for `renew`.
        async with asyncio.timeout(20):
            while (found := await other.get(id)).busy or found.n_tokens < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await other.begin(id, 2, [3])


@in_loop
async def test_of_many_servers_at_once_one_gets_a_session(postgres_url: str) -> None:
    # All of them make the tables at the same time, too.
    stores = [open_store(postgres_url, lease_seconds=60) for _ in range(5)]
    await asyncio.gather(*(store.open() for store in stores))
    results = await asyncio.gather(
        *(store.create(record(), [1], limit=7) for store in stores for _ in range(4)),
        return_exceptions=True,
    )
    assert results.count(None) == 7
    assert sum(isinstance(result, TooManySessionsError) for result in results) == 13
    for session in await stores[0].list(None, 10):
        results = await asyncio.gather(
            *(store.begin(session.id, 1, [i]) for i in range(2) for store in stores),
            return_exceptions=True,
        )
        assert results.count(None) == 1
        assert sum(isinstance(result, SessionBusyError) for result in results) == 9
        winner = stores[results.index(None) % 5]
        await end(winner, session.id, 2)
    await asyncio.gather(*(store.close() for store in stores))


@in_loop
async def test_turns_of_several_servers_never_mix(postgres_url: str) -> None:
    async with opened(postgres_url) as one, opened(postgres_url) as other:
        ids = [await added(one) for _ in range(3)]

        async def talk(store: SessionStore, who: int) -> None:
            for turn in range(8):
                for id in ids:
                    while True:
                        start = (await store.get(id)).n_tokens
                        try:
                            await store.begin(id, start, [who, turn])
                            break
                        except SessionBusyError:
                            await asyncio.sleep(0.001)
                    await end(store, id, start + 2, who, turn)

        await asyncio.gather(talk(one, 0), talk(other, 1), talk(one, 2), talk(other, 3))
        expected = sorted((who, turn) * 2 for who in range(4) for turn in range(8))
        for id in ids:
            log = await log_of(one, id)
            assert sorted(tuple(log[at : at + 4]) for at in range(0, len(log), 4)) == expected
