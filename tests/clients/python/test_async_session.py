"""What only asyncio has: sessions of tasks that are cancelled, and of many tasks."""

import asyncio
import io
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest

from causalrn_client import AsyncClient, AsyncSession
from causalrn_client.session_requests import snapshot_call
from tests.clients.python.blocking import busy_connections
from tests.clients.python.contract_server import Canned, ContractServer
from tests.clients.python.contract_sessions import MAGIC
from tests.clients.python.raw_server import Reply, http_reply, raw_server
from tests.clients.python.test_async_client import PATIENCE_S, cancel

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

pytestmark = pytest.mark.anyio

ID = "ses-" + "1" * 32


class HeldDeletions(httpx.AsyncHTTPTransport):
    """Tells when a deletion is under way, and sends it when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.released = asyncio.Event(), asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "DELETE":
            self.asked.set()
            await self.released.wait()
        return await super().handle_async_request(request)


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


async def cancel_scope_and_close(server: ContractServer, *answers: Canned) -> None:
    """Cancels the scope of a session's block, and closes the client before the session is deleted.

    The answers are those to the deletion.
    """
    transport = HeldDeletions()
    async with httpx.AsyncClient(transport=transport) as http, asyncio.timeout(PATIENCE_S):
        client = AsyncClient(server.url, http_client=http)
        entered = asyncio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(wait_for_ever, client.session(), entered)
            await entered.wait()
            server.answer_next(*answers)
            group.cancel_scope.cancel()
        closing = asyncio.create_task(client.close())
        await transport.asked.wait()
        await asyncio.wait([closing], timeout=0.1)
        assert not closing.done()  # it waits for what the cancelled scope could not
        transport.released.set()
        await closing
        assert [received.method for received in server.received] == ["POST", "DELETE"]


async def test_so_does_cancelling_a_scope(server: ContractServer) -> None:
    await cancel_scope_and_close(server)
    assert server.sessions.logs == {}


async def test_a_time_limit_deletes_the_session(server: ContractServer) -> None:
    async with AsyncClient(server.url) as client:
        with pytest.raises(TimeoutError):  # noqa: PT012
            async with asyncio.timeout(None) as limit, client.session():
                # Only now: a busy machine might need all of a short time to make the session.
                limit.reschedule(asyncio.get_running_loop().time() + 0.05)
                await asyncio.Event().wait()
        assert server.sessions.logs == {}
    assert [received.method for received in server.received] == ["POST", "DELETE"]


async def test_closing_waits_no_longer_than_the_deletion(server: ContractServer) -> None:
    """A deletion that fails, in a scope that is cancelled, fails in silence, and at once."""
    await cancel_scope_and_close(server, Canned(503, headers={"retry-after": "60"}))
    assert len(server.sessions.logs) == 1


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
            asked.set()
            assert released.wait(PATIENCE_S)
            return super().read(size)

    asked, released = threading.Event(), threading.Event()
    async with AsyncClient(server.url) as client:
        file = SlowDisk(MAGIC + b"{}")
        restoring = asyncio.create_task(client.restore(file, ID))
        assert await asyncio.to_thread(asked.wait, PATIENCE_S)
        assert await client.ready()
        assert not restoring.done()
        released.set()
        assert (await restoring).id == ID


async def test_so_it_does_while_what_comes_is_written(server: ContractServer) -> None:
    class SlowDisk(io.BytesIO):
        def write(self, data: "ReadableBuffer", /) -> int:
            asked.set()
            assert released.wait(PATIENCE_S)
            return super().write(data)

    asked, released = threading.Event(), threading.Event()
    id = server.sessions.add().id
    async with AsyncClient(server.url) as client:
        file = SlowDisk()
        saving = asyncio.create_task(client._connection.download(snapshot_call(id), file, None))
        assert await asyncio.to_thread(asked.wait, PATIENCE_S)
        assert await client.ready()
        assert not saving.done()
        released.set()
        await saving
    assert file.getvalue().startswith(MAGIC)
