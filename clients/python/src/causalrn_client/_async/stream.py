"""A generation that arrives while it is being written."""

from collections.abc import AsyncGenerator, AsyncIterator
from types import TracebackType
from typing import Self

import httpx

from causalrn_client._async.connection import AsyncConnection
from causalrn_client.chunk_reader import ChunkReader
from causalrn_client.models import Chunk, Generation
from causalrn_client.requests import Call
from causalrn_client.responses import interruption


class AsyncStream:
    """Yields the chunks of one generation to an `async for` loop.

    Use it in an `async with` block, so that the server stops when you do: leaving the block closes
    the connection, and the server then stops generating. So do reading to the end, an error and,
    with asyncio, cancelling the task that reads. The request is sent when the block is entered, or
    without a block when the first chunk is asked for.

    A stream belongs to one thread, or one task.
    """

    def __init__(self, connection: AsyncConnection, call: Call) -> None:
        """Not for you to call: `AsyncClient.stream` and `AsyncSession.stream` return streams.

        Args:
            connection: Sends the request.
            call: The request for a generation as events.
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
        """Reads the rest of the stream and returns the whole generation.

        Raises:
            IncompleteStreamError: The stream failed, or was closed, before it was complete.
        """
        async for _ in self:
            pass
        return self._reader.generation()

    async def close(self) -> None:
        """Closes the connection, so that the server stops generating. Can be called twice."""
        self._opened = True
        if self._chunks is not None:
            await self._chunks.aclose()
        if self._response is not None:
            # The generator does this only once it has begun.
            await self._connection.close(self._response)

    async def _open(self) -> None:
        if self._opened:
            return
        self._opened = True  # first, so that the next call does not send a failed request again
        self._response = await self._connection.open_stream(self._call)
        self._chunks = _read(self._connection, self._response, self._reader)


# A function, not a method: a generator that referred to the stream would keep an abandoned one, and
# its connection, alive until the garbage collector finds the cycle.
async def _read(
    connection: AsyncConnection, response: httpx.Response, reader: ChunkReader
) -> AsyncGenerator[Chunk, None]:
    try:
        pieces = response.aiter_bytes()
        async for piece in pieces:
            for chunk in reader.feed(piece):
                yield chunk
            if reader.done:
                # Read on to the end of the response, so that its connection can be used again.
                await connection.read(pieces)
                return
        reader.end()
    except httpx.RequestError as error:
        if not reader.done:
            raise interruption(error) from error
    finally:
        await connection.close(response)
