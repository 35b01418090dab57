"""The async client behind the face of the sync one, so that both take the same tests."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Self

import httpx
from anyio.from_thread import BlockingPortal

from causalrn_client import AsyncClient, AsyncStream, Chunk, Client, Generation, ServerInfo, Stream


class BlockingStream:
    def __init__(self, portal: BlockingPortal, stream: AsyncStream) -> None:
        self._portal = portal
        self._stream = stream

    def __enter__(self) -> Self:
        self._portal.call(self._stream.__aenter__)
        return self

    def __exit__(self, *error: Any) -> None:
        self._portal.call(self._stream.__aexit__, *error)

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        try:
            return self._portal.call(self._stream.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None

    def result(self) -> Generation:
        return self._portal.call(self._stream.result)

    def close(self) -> None:
        self._portal.call(self._stream.close)


class BlockingAsyncClient:
    def __init__(self, portal: BlockingPortal, *args: Any, **options: Any) -> None:
        self._portal = portal
        self._client = AsyncClient(*args, **options)

    def __enter__(self) -> Self:
        self._portal.call(self._client.__aenter__)
        return self

    def __exit__(self, *error: Any) -> None:
        self._portal.call(self._client.__aexit__, *error)

    def generate(self, *args: Any, **options: Any) -> Generation:
        return self._portal.call(partial(self._client.generate, *args, **options))

    def stream(self, *args: Any, **options: Any) -> BlockingStream:
        return BlockingStream(self._portal, self._client.stream(*args, **options))

    def info(self) -> ServerInfo:
        return self._portal.call(self._client.info)

    def ready(self) -> bool:
        return self._portal.call(self._client.ready)

    def close(self) -> None:
        self._portal.call(self._client.close)


AnyClient = Client | BlockingAsyncClient
AnyStream = Stream | BlockingStream


def http_of(client: AnyClient | AsyncClient) -> httpx.Client | httpx.AsyncClient:
    return client._client._http if isinstance(client, BlockingAsyncClient) else client._http


def open_connections(client: AnyClient | AsyncClient) -> list[str]:
    """Connections of the client's pool, as their state: empty once it is closed."""
    transport = http_of(client)._transport
    assert isinstance(transport, httpx.HTTPTransport | httpx.AsyncHTTPTransport)
    return [connection.info() for connection in transport._pool.connections]


def busy_connections(client: AnyClient | AsyncClient) -> list[str]:
    """Those that some request still holds."""
    return [
        info for info in open_connections(client) if "IDLE" not in info and "CLOSED" not in info
    ]
