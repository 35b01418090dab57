"""A generation as it is written, for synchronous code."""

from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Self

import httpx

from causalrn_client.chunk_reader import ChunkReader
from causalrn_client.connection import Connection
from causalrn_client.models import Chunk, Generation
from causalrn_client.requests import Call
from causalrn_client.responses import interruption


class Stream:
    """An iterator over the chunks of one generation, and a context manager that ends it.

    The request is sent when the `with` block is entered, or else when the first chunk is asked for.
    Leaving the block, reading to the end and an error each close the response, and with it stop
    the generation on the server. Not to be shared between threads.
    """

    def __init__(self, connection: Connection, call: Call) -> None:
        """Made by `Client.stream` and `Session.stream`.

        Args:
            connection: The client's; sends the request.
            call: Asks for the generation, as events.
        """
        self._connection = connection
        self._call = call
        self._opened = False
        self._response: httpx.Response | None = None
        self._reader = ChunkReader()
        self._chunks: Generator[Chunk, None, None] | None = None

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
        """Reads what is left of the stream and returns the whole generation.

        Raises:
            IncompleteStreamError: The stream failed, or was closed, before it was complete.
        """
        for _ in self:
            pass
        return self._reader.generation()

    def close(self) -> None:
        """Closes the response; the server then stops the generation. May be called twice."""
        self._opened = True
        if self._chunks is not None:
            self._chunks.close()
        if self._response is not None:
            self._response.close()  # the generator does it only where it has begun

    def _open(self) -> None:
        if self._opened:
            return
        self._opened = True  # first, so that a request that failed is not sent by the next call
        self._response = self._connection.open_stream(self._call)
        self._chunks = _read(self._response, self._reader)


# Not a method: a generator that held the stream would keep an abandoned one alive, and with it its
# connection, until the cycle is collected.
def _read(response: httpx.Response, reader: ChunkReader) -> Generator[Chunk, None, None]:
    try:
        pieces = response.iter_bytes()
        for piece in pieces:
            yield from reader.feed(piece)
            if reader.done:
                # Let the response end, so that its connection can be used again.
                next(pieces, None)
                return
        reader.end()
    except httpx.RequestError as error:
        if not reader.done:
            raise interruption(error) from error
    finally:
        response.close()
