"""What only asyncio has: sessions of tasks that are cancelled, and of many tasks."""

import asyncio
import io
import threading
from pathlib import Path

import anyio
import pytest

from causalrn_client import AsyncClient, AsyncSession
from tests.clients.python.blocking import busy_connections
from tests.clients.python.contract_server import ContractServer
from tests.clients.python.contract_sessions import MAGIC
from tests.clients.python.raw_server import Reply, http_reply, raw_server
from tests.clients.python.test_async_client import PATIENCE_S, cancel

pytestmark = pytest.mark.anyio

ID = "ses-" + "1" * 32


async def wait_for_ever(session: AsyncSession, entered: asyncio.Event) -> None:
    async with session:
        entered.set()
        await asyncio.Event().wait()


async def test_tasks_have_a_session_each(server: ContractServer) -> None:
    async with AsyncClient(server.url) as client:

        async def converse(text: str) -> str:
            async with client.session() as session:
                await session.read(text)
                recalled = await session.recall(text[:2])
                async with session.stream("x") as stream:
                    await stream.result()
                async with await session.fork() as child:
                    assert (await child.info()).n_tokens > len(text)
                return recalled.text

        texts = [f"{n:02} is the beginning" for n in range(16)]
        assert await asyncio.gather(*map(converse, texts)) == [text[2:] for text in texts]
        assert [session async for session in client.sessions()] == []
        assert busy_connections(client) == []
    assert server.sessions.logs == {}


async def test_cancelling_the_block_deletes_the_session(server: ContractServer) -> None:
    async with AsyncClient(server.url) as client:
        entered = asyncio.Event()
        await cancel(wait_for_ever(client.session(), entered), when=entered.is_set)
        assert server.sessions.logs == {}


async def test_so_does_cancelling_a_scope(server: ContractServer) -> None:
    async with AsyncClient(server.url) as client:
        entered = asyncio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(wait_for_ever, client.session(), entered)
            await entered.wait()
            group.cancel_scope.cancel()
    # Closing the client has waited for what the cancelled scope could not.
    assert server.sessions.logs == {}


async def test_a_time_limit_deletes_the_session(server: ContractServer) -> None:
    async with AsyncClient(server.url) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await wait_for_ever(client.session(), asyncio.Event())
        assert server.sessions.logs == {}


async def test_closing_waits_no_longer_than_the_deletion(server: ContractServer) -> None:
    """A deletion that fails, in a scope that is cancelled, fails in silence."""
    async with AsyncClient(server.url) as client:
        session = client.session()
        entered = asyncio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(wait_for_ever, session, entered)
            await entered.wait()
            server.sessions.clear()
            group.cancel_scope.cancel()
    assert [received.method for received in server.received] == ["POST", "DELETE"]


async def test_cancelling_a_snapshot_leaves_no_file(tmp_path: Path) -> None:
    half = http_reply(MAGIC * 100_000, "application/octet-stream").content[:-10]
    seen: list[int] = []
    with raw_server(Reply(half, then_silence=True)) as server:
        async with AsyncClient(server.url) as client:
            session = client.session(ID)
            saving = session.snapshot(tmp_path / "chat", progress=lambda done, _: seen.append(done))
            await cancel(saving, when=lambda: len(seen) >= 2)
            assert busy_connections(client) == []
    assert [path async for path in anyio.Path(tmp_path).iterdir()] == []


async def test_cancelling_a_restore(server: ContractServer) -> None:
    with raw_server(Reply(then_silence=True)) as silent:
        async with AsyncClient(silent.url) as client:
            file = io.BytesIO(MAGIC * 100_000)
            await cancel(client.restore(file), when=lambda: silent.connections == 1)
            assert busy_connections(client) == []
            assert not file.closed
    assert server.received == []


async def test_the_loop_goes_on_while_the_disk_is_slow(server: ContractServer) -> None:
    class SlowDisk(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            assert released.wait(PATIENCE_S)
            return super().read(size)

    released = threading.Event()
    async with AsyncClient(server.url) as client:
        file = SlowDisk(MAGIC + b"{}")
        restoring = asyncio.create_task(client.restore(file, ID))
        assert await client.ready()
        assert not restoring.done()
        released.set()
        assert (await restoring).id == ID
