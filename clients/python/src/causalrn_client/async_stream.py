"""A generation as it is written, for asyncio."""

from collections.abc import AsyncGenerator, AsyncIterator
from types import TracebackType
from typing import Self

import httpx

from causalrn_client.async_connection import AsyncConnection
from causalrn_client.chunk_reader import ChunkReader
from causalrn_client.models import Chunk, Generation
from causalrn_client.requests import Call
from causalrn_client.responses import interruption


class AsyncStream:
    """An async iterator over the chunks of one generation, and a context manager that ends it.

    The request is sent when the `async with` block is entered, or else when the first chunk is
    asked for. Leaving the block, reading to the end, an error and the cancellation of the reading
    task each close the response, and with it stop the generation on the server. Not to be shared
    between tasks.
    """

    def __init__(self, connection: AsyncConnection, call: Call) -> None:
        """Made by `AsyncClient.stream` and `AsyncSession.stream`.

        Args:
            connection: The client's; sends the request.
            call: Asks for the generation, as events.
        """
        self._connection = connection
        self._call = call
        self._opened = False
        self._response: httpx.Response | None = None
        self._reader = ChunkReader()
        self._chunks: AsyncGenerator[Chunk, None] | None = None

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        await self._open()
        if self._chunks is None:
            raise StopAsyncIteration
        return await anext(self._chunks)

    async def result(self) -> Generation:
        """Reads what is left of the stream and returns the whole generation.

        Raises:
            IncompleteStreamError: The stream failed, or was closed, before it was complete.
        """
        async for _ in self:
            pass
        return self._reader.generation()

    async def close(self) -> None:
        """Closes the response; the server then stops the generation. May be called twice."""
        self._opened = True
        if self._chunks is not None:
            await self._chunks.aclose()
        if self._response is not None:
            await self._response.aclose()  # the generator does it only where it has begun

    async def _open(self) -> None:
        if self._opened:
            return
        self._opened = True  # first, so that a request that failed is not sent by the next call
        self._response = await self._connection.open_stream(self._call)
        self._chunks = _read(self._response, self._reader)


# Not a method: a generator that held the stream would keep an abandoned one alive, and with it its
# connection, until the cycle is collected.
async def _read(response: httpx.Response, reader: ChunkReader) -> AsyncGenerator[Chunk, None]:
    try:
        pieces = response.aiter_bytes()
        async for piece in pieces:
            for chunk in reader.feed(piece):
                yield chunk
            if reader.done:
                # Let the response end, so that its connection can be used again.
                await anext(pieces, None)
                return
        reader.end()
    except httpx.RequestError as error:
        if not reader.done:
            raise interruption(error) from error
    finally:
        await response.aclose()
