# Written by unasync.py from _async/stream.py; change that one.
"""A generation that arrives while it is being written."""

from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Self

import httpx

from causalrn_client._sync.connection import Connection
from causalrn_client.chunk_reader import ChunkReader
from causalrn_client.models import Chunk, Generation
from causalrn_client.requests import Call
from causalrn_client.responses import interruption


class Stream:
    """Yields the chunks of one generation to a `for` loop.

    Use it in a `with` block, so that the server stops when you do: leaving the block closes
    the connection, and the server then stops generating. So do reading to the end, an error and,
    with asyncio, cancelling the task that reads. The request is sent when the block is entered, or
    without a block when the first chunk is asked for.

    A stream belongs to one thread, or one task.
    """

    def __init__(self, connection: Connection, call: Call) -> None:
        """Not for you to call: `Client.stream` and `Session.stream` return streams.

        Args:
            connection: Sends the request.
            call: The request for a generation as events.
        """
        self._connection = connection
        self._call = call
        self._opened = False
        self._response: httpx.Response | None = None
        self._reader = ChunkReader()
        self._chunks: Generator[Chunk, None] | None = None

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        self._open()
        if self._chunks is None:
            raise StopIteration
        return next(self._chunks)

    def result(self) -> Generation:
        """Reads the rest of the stream and returns the whole generation.

        Raises:
            IncompleteStreamError: The stream failed, or was closed, before it was complete.
        """
        for _ in self:
            pass
        return self._reader.generation()

    def close(self) -> None:
        """Closes the connection, so that the server stops generating. Can be called twice."""
        self._opened = True
        if self._chunks is not None:
            self._chunks.close()
        if self._response is not None:
            # The generator does this only once it has begun.
            self._connection.close(self._response)

    def _open(self) -> None:
        if self._opened:
            return
        self._opened = True  # first, so that the next call does not send a failed request again
        self._response = self._connection.open_stream(self._call)
        self._chunks = _read(self._connection, self._response, self._reader)


# A function, not a method: a generator that referred to the stream would keep an abandoned one, and
# its connection, alive until the garbage collector finds the cycle.
def _read(
    connection: Connection, response: httpx.Response, reader: ChunkReader
) -> Generator[Chunk, None]:
    try:
        pieces = response.iter_bytes()
        for piece in pieces:
            yield from reader.feed(piece)
            if reader.done:
                # Read on to the end of the response, so that its connection can be used again.
                connection.read(pieces)
                return
        reader.end()
    except httpx.RequestError as error:
        if not reader.done:
            raise interruption(error) from error
    finally:
        connection.close(response)
