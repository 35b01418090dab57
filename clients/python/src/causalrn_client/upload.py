"""A request body that is read from a file while it is being sent."""

import asyncio
import io
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from causalrn_client.errors import InvalidRequestError

Progress = Callable[[int, int | None], object]
"""Called with the number of bytes transferred so far and the total, or None if it is unknown."""

PIECE_BYTES = 256 * 1024


class Upload:
    """The rest of an open file, from its current position, which can be sent more than once."""

    def __init__(self, file: BinaryIO, progress: Progress | None = None) -> None:
        """Measures the file.

        Args:
            file: A file that can seek. It is not closed, and its position not restored.
            progress: Called after each piece; from 0 again when the request is sent again.

        Raises:
            OSError: The file cannot seek.
        """
        self._file = file
        self._progress = progress
        self._start = file.tell()
        self.size = file.seek(0, os.SEEK_END) - self._start

    def pieces(self) -> Iterator[bytes]:
        """Yields the content from its beginning.

        Raises:
            InvalidRequestError: The file has become shorter.
            OSError: The file cannot be read.
        """
        done = self._begin()
        while done < self.size:
            piece = self._file.read(min(PIECE_BYTES, self.size - done))
            done += self._check(piece)
            yield piece
            self._report(done)

    async def async_pieces(self) -> AsyncIterator[bytes]:
        """Yields the content from its beginning, without holding up the event loop."""
        done = self._begin()
        while done < self.size:
            piece = await asyncio.to_thread(self._file.read, min(PIECE_BYTES, self.size - done))
            done += self._check(piece)
            yield piece
            self._report(done)

    def _begin(self) -> int:
        self._file.seek(self._start)
        self._report(0)
        return 0

    def _check(self, piece: bytes) -> int:
        if not piece:
            raise InvalidRequestError("the file was cut short while it was sent")
        return len(piece)

    def _report(self, done: int) -> None:
        if self._progress is not None:
            self._progress(done, self.size)


@contextmanager
def uploading(
    source: str | os.PathLike[str] | bytes | BinaryIO, progress: Progress | None
) -> Iterator[Upload]:
    """Opens what is to be sent, and closes it afterwards unless it was open before.

    Args:
        source: The path of a file, its content, or an open file that can seek.
        progress: See `Upload`.

    Raises:
        InvalidRequestError: It is something else.
        OSError: The file cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        with Path(source).open("rb") as file:
            yield Upload(file, progress)
    elif isinstance(source, bytes | bytearray | memoryview):
        yield Upload(io.BytesIO(source), progress)  # which does not copy bytes
    elif hasattr(source, "seek") and not isinstance(source, io.TextIOBase):
        yield Upload(source, progress)
    else:
        raise InvalidRequestError(
            "a snapshot is the path of a file, its content as bytes, or a file that is open in "
            f"binary mode, not of type {type(source).__name__}"
        )
