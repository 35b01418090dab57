"""What only asyncio has: cancellation, many tasks, collection of what was abandoned."""

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import pytest

from causalrn_client import AsyncClient, ServiceUnavailableError
from tests.clients.python.blocking import busy_connections
from tests.clients.python.contract_server import Canned, ContractServer
from tests.clients.python.raw_server import STREAM_HEAD, Reply, raw_server

pytestmark = pytest.mark.anyio

PATIENCE_S = 10.0


async def left(server: ContractServer) -> str:
    """Waits for a client to go away, and returns what it was being sent."""
    return await asyncio.to_thread(server.disconnected.get, timeout=PATIENCE_S)


async def cancel(answer: Coroutine[Any, Any, Any], *, when: Callable[[], bool]) -> None:
    """Starts to wait for an answer, and cancels that."""
    task = asyncio.create_task(answer)
    async with asyncio.timeout(PATIENCE_S):
        while not when():
            assert not task.done()
            await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_tasks_share_a_client(server: ContractServer) -> None:
    texts = [f"text {n}" for n in range(32)]
    async with AsyncClient(server.url) as client:
        copies = await asyncio.gather(*(client.stream(text).result() for text in texts))
        assert [copy.text for copy in copies] == texts
        assert busy_connections(client) == []


async def test_cancelling_the_reader_ends_the_generation(server: ContractServer) -> None:
    server.hold()
    async with AsyncClient(server.url) as client:
        started = asyncio.Event()

        async def read() -> None:
            async for _ in client.stream("hello"):
                started.set()

        task = asyncio.create_task(read())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert busy_connections(client) == []
        assert await left(server) == "hello"


@pytest.mark.parametrize("content", [b"", STREAM_HEAD], ids=["nothing", "head"])
@pytest.mark.parametrize("way", ["generate", "stream"])
async def test_cancelling_the_wait_for_an_answer(content: bytes, way: str) -> None:
    heads: list[httpx.Response] = []

    async def note(response: httpx.Response) -> None:
        heads.append(response)

    with raw_server(Reply(content, then_silence=True)) as server:
        async with (
            httpx.AsyncClient(event_hooks={"response": [note]}) as http,
            AsyncClient(server.url, http_client=http) as client,
        ):

            def waits() -> bool:
                # Not before the request has begun: httpcore keeps a connection on which a
                # cancelled request had yet to begin.
                begun = any("ACTIVE" in connection for connection in busy_connections(client))
                return begun and server.connections == 1 and bool(heads) == bool(content)

            answer = client.generate("x") if way == "generate" else client.stream("x").result()
            await cancel(answer, when=waits)
            assert busy_connections(client) == []
            assert server.connections == 1


async def test_cancelling_the_wait_for_a_retry(server: ContractServer) -> None:
    server.answer_next(Canned(503, headers={"Retry-After": "60"}))
    async with AsyncClient(server.url) as client:

        def waits_to_retry() -> bool:
            return bool(server.received) and not busy_connections(client)

        await cancel(client.generate("x"), when=waits_to_retry)
        assert busy_connections(client) == []
        assert len(server.received) == 1


async def test_one_of_many_may_leave(server: ContractServer) -> None:
    server.hold()
    async with AsyncClient(server.url) as client:
        streams = [client.stream(f"text {n}") for n in range(16)]
        for stream in streams:
            assert (await anext(stream)).text == "t"
        for stream in streams[::2]:
            await stream.close()
        assert len(busy_connections(client)) == 8
        assert sorted([await left(server) for _ in range(8)]) == sorted(
            f"text {n}" for n in range(0, 16, 2)
        )
        server.release()
        rest = await asyncio.gather(*(stream.result() for stream in streams[1::2]))
        assert [copy.text for copy in rest] == [f"text {n}" for n in range(1, 16, 2)]
        assert busy_connections(client) == []


async def test_an_abandoned_stream_ends_when_it_is_collected(server: ContractServer) -> None:
    server.hold()
    async with AsyncClient(server.url) as client:
        async for chunk in client.stream("hello"):
            assert chunk.text == "h"
            break
        gc.collect()
        assert await left(server) == "hello"
        assert busy_connections(client) == []


async def test_a_refusal_leaves_nothing_open(server: ContractServer) -> None:
    server.answer_next(Canned(503))
    async with AsyncClient(server.url, max_retries=0) as client:
        with pytest.raises(ServiceUnavailableError):
            await client.stream("hello").result()
        assert busy_connections(client) == []


@pytest.mark.parametrize("way", ["generate", "stream", "batch"])
async def test_cancelling_at_any_moment_gives_connections_back(
    server: ContractServer, way: str
) -> None:
    # Before a connection, while a request is sent, while it is answered, as it ends.
    async def ask(client: AsyncClient, place: int) -> None:
        if way == "generate":
            await client.generate("text")
        elif way == "batch":
            await client.generate_many(["text"] * 3)
        else:
            async with client.stream("text") as stream:
                for _ in range(place):
                    await anext(stream, None)

    loop = asyncio.get_running_loop()
    async with AsyncClient(server.url) as client:
        start = loop.time()
        await asyncio.gather(*[ask(client, place) for place in range(8)])
        whole = loop.time() - start
        for moment in range(60):
            tasks = [asyncio.create_task(ask(client, place)) for place in range(8)]
            await asyncio.sleep(whole * moment / 60)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert busy_connections(client) == []
