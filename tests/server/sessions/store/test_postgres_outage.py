"""A PostgreSQL server that goes away, comes back, or hangs."""

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest

from causalrn.server.errors import SessionBusyError, StoreUnavailableError
from causalrn.server.sessions.store.base import Append
from causalrn.server.sessions.store.open_store import open_store
from causalrn.server.sessions.store.postgres import PostgresStore
from tests.server.in_loop import in_loop
from tests.server.sessions.store.postgres_server import PostgresServer, until_it_waits_for_a_lock
from tests.server.sessions.store.stores import added, end, log_of, opened, told, until_works


@in_loop
async def test_the_store_works_again_after_a_restart(
    postgres: PostgresServer, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(postgres_url) as store, opened(postgres_url) as idle:
        id = await added(store, 1)
        await store.begin(id, 1, [2])
        assert await idle.count() == 1
        caplog.clear()
        await asyncio.to_thread(postgres.stop)
        started = time.monotonic()
        for _ in range(3):
            with pytest.raises(StoreUnavailableError, match=r"PostgreSQL (cannot|starts)"):
                await store.append([Append(id, 2, [3], done=False)])
            with pytest.raises(StoreUnavailableError):
                await store.get(id)
        with pytest.raises(StoreUnavailableError):
            await open_store(postgres_url, lease_seconds=1).open()
        assert time.monotonic() - started < 10  # it is told at once, and not tried for long
        await asyncio.to_thread(postgres.start)
        assert await store.append([Append(id, 2, [3], done=False)]) == [None]
        assert await log_of(store, id) == [1, 2, 3]
        assert told(caplog) == ["ERROR", "ERROR", "INFO"]  # one error is of the store of its own
        await asyncio.to_thread(postgres.stop)
        await asyncio.to_thread(postgres.start)
        assert await idle.count() == 1  # it noticed nothing
        await end(store, id, 3, 4)


@in_loop
async def test_nothing_acknowledged_is_lost_through_restarts(
    postgres: PostgresServer, postgres_url: str
) -> None:
    async with opened(postgres_url) as store:
        id = await added(store)
        await store.begin(id, 0, [])
        acknowledged, stopped = 0, asyncio.Event()

        async def write() -> None:
            nonlocal acknowledged
            start = (await store.get(id)).n_tokens
            assert start >= acknowledged
            token_ids = range(start, start + 7)
            assert await store.append([Append(id, start, token_ids, done=False)]) == [None]
            acknowledged = start + 7

        async def keep_writing() -> None:
            while not stopped.is_set():
                await until_works(write, seconds=30)

        async def until_more(n: int) -> None:
            wanted = acknowledged + n
            while acknowledged < wanted and not writing.done():  # noqa: ASYNC110
                await asyncio.sleep(0.001)

        writing = asyncio.create_task(keep_writing())
        for n in (7, 140, 210):
            await until_more(n)
            await asyncio.to_thread(postgres.stop)
            await asyncio.to_thread(postgres.start)
        await until_more(7)
        stopped.set()
        await writing
        log = await log_of(store, id)
        assert log == list(range(len(log)))
        assert len(log) >= acknowledged >= 7 + 140 + 210 + 7


@in_loop
async def test_connections_that_are_cut_are_made_again(
    postgres: PostgresServer, postgres_url: str
) -> None:
    cut = (  # and wait, 30 s at most, until they are
        "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity "
        "WHERE application_name = 'causalrn'"
    )
    async with opened(postgres_url) as store:
        id = await added(store, 1)
        await asyncio.to_thread(postgres.execute, cut)
        await store.begin(id, 1, [2])  # idle ones are replaced, and nobody is told
        async with await psycopg.AsyncConnection.connect(postgres_url) as other:
            await other.execute("SELECT 1 FROM causalrn_sessions FOR UPDATE")
            append = asyncio.create_task(store.append([Append(id, 2, [3], done=False)]))
            await until_it_waits_for_a_lock(postgres_url)
            await asyncio.to_thread(postgres.execute, cut)
            with pytest.raises(StoreUnavailableError, match="starts or stops"):
                await append
        assert await log_of(store, id) == [1, 2]
        await end(store, id, 2, 3)


@in_loop
async def test_calls_end_though_the_server_does_not_answer(
    postgres: PostgresServer, postgres_url: str
) -> None:
    store = PostgresStore(postgres_url, lease_seconds=60, answer_seconds=0.7)
    id = await added(store, 1)
    ids = [await added(store) for _ in range(8)]
    with postgres.frozen():
        started = time.monotonic()
        results = await asyncio.gather(
            *(store.begin(id, 0, []) for id in ids), return_exceptions=True
        )
        assert {type(result) for result in results} == {StoreUnavailableError}
        assert "does not answer" in str(results[0])
        assert time.monotonic() - started < 10
        task = asyncio.create_task(store.get(id))
        await asyncio.sleep(0.1)
        task.cancel()  # whoever waits need not wait any more
        await asyncio.wait({task}, timeout=0.2)
        assert task.cancelled()

    async def take() -> None:  # this may be slow, too, and then be committed or not
        await store.begin(id, len(await log_of(store, id)), [2])

    await until_works(take)
    assert set((await log_of(store, id))[1:]) == {2}
    await store.close()


@in_loop
async def test_calls_end_though_a_row_stays_locked(postgres_url: str) -> None:
    store = PostgresStore(postgres_url, lease_seconds=60, answer_seconds=1.0)
    id = await added(store, 1)
    async with await psycopg.AsyncConnection.connect(postgres_url) as other:
        await other.execute("SELECT 1 FROM causalrn_sessions FOR UPDATE")
        with pytest.raises(StoreUnavailableError, match="something else has locked"):
            await store.begin(id, 1, [2])
        assert await log_of(store, id) == [1]
    await store.begin(id, 1, [2])
    await store.close()


class Proxy:
    """Stands between a store and its server, and can lose the answer to a commit.

    Attributes:
        forgetful: whether it passes the next commit on, and then breaks the connection off.
    """

    def __init__(self, postgres: PostgresServer) -> None:
        self._postgres = postgres
        self.forgetful = False
        self.connections: list[asyncio.Task[object] | None] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(asyncio.current_task())
        behind, ahead = await asyncio.open_unix_connection(self._postgres.folder / ".s.PGSQL.5432")

        async def answer() -> None:
            while data := await behind.read(65536):
                writer.write(data)

        answers = asyncio.create_task(answer())
        while data := await reader.read(65536):
            is_lost = self.forgetful and b"COMMIT" in data
            if is_lost:
                answers.cancel()
                await asyncio.wait({answers})
            ahead.write(data)
            if is_lost:
                await behind.read(65536)  # the answer: it is committed by now
                self.forgetful = False
                break
        answers.cancel()
        for side in (writer, ahead):
            side.close()
            with contextlib.suppress(ConnectionError):
                await side.wait_closed()


@asynccontextmanager
async def proxied(postgres: PostgresServer, url: str) -> AsyncIterator[tuple[Proxy, str]]:
    folder = tempfile.mkdtemp(prefix="causalrn-proxy-")
    proxy = Proxy(postgres)
    server = await asyncio.start_unix_server(proxy.serve, f"{folder}/.s.PGSQL.5432")
    try:
        yield proxy, url.replace(str(postgres.folder), folder)
    finally:
        server.close()
        await asyncio.wait(filter(None, proxy.connections))
        shutil.rmtree(folder)


@in_loop
async def test_a_commit_whose_answer_is_lost_is_made_once(
    postgres: PostgresServer, postgres_url: str
) -> None:
    async with (
        proxied(postgres, postgres_url) as (proxy, url),
        opened(url) as store,
        opened(postgres_url) as other,
    ):
        id = await added(store, 1)
        proxy.forgetful = True
        with pytest.raises(StoreUnavailableError):
            await store.begin(id, 1, [2])
        assert await log_of(store, id) == [1, 2]  # longer than the caller knows
        assert (await store.get(id)).busy
        with pytest.raises(SessionBusyError):
            await other.begin(id, 2, [])
        await store.begin(id, 2, [3])  # nobody else has it, and this store knows
        proxy.forgetful = True
        with pytest.raises(StoreUnavailableError):
            await store.append([Append(id, 3, [4], done=False)])
        (outcome,) = await store.append([Append(id, 3, [4], done=False)])
        assert isinstance(outcome, SessionBusyError)  # not appended twice
        assert await log_of(store, id) == [1, 2, 3, 4]
        await end(store, id, 4)

        proxy.forgetful = True
        with pytest.raises(StoreUnavailableError):
            await store.begin(id, 4, [])
        with pytest.raises(SessionBusyError):
            await other.begin(id, 4, [])
        await store.renew([])
        await other.begin(id, 4, [])
