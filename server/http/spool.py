"""Large bodies in files without a name, so that slow clients hold none of the server's memory."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from typing import BinaryIO

from starlette.requests import Request

from server.errors import UnavailableError
from server.http.json_body import limited_body, too_slow

_PIECE = 1 << 20  # bytes that are read, or written, at once


async def receive(request: Request, limit: int) -> BinaryIO:
    """Receive a request's body into a file, which is rewound and is gone once it is closed.

    A large body may take long as a whole; but every next piece must come within the time that the
    whole of a body may take elsewhere.

    Raises:
        BodyTooLargeError: it has more than `limit` bytes.
        RequestTimeoutError: nothing of it came for too long.
        UnavailableError: there is no room for it.
        ClientDisconnect: the client left before the end.
    """
    seconds = request.app.state.settings.body_seconds
    file = _file()
    waiting = bytearray()
    try:
        async for piece in _timely(limited_body(request, limit), seconds):
            waiting += piece
            if len(waiting) >= _PIECE:
                await asyncio.to_thread(file.write, bytes(waiting))
                waiting.clear()
        file.write(waiting)
        file.seek(0)
    except OSError as error:
        file.close()
        raise _no_room(error) from None
    except BaseException:
        file.close()
        raise
    return file


def write(parts: Iterator[bytes]) -> BinaryIO:
    """Write the parts of a body into a file, which is rewound and is gone once it is closed.

    Raises:
        UnavailableError: there is no room for it.
    """
    file = _file()
    try:
        for part in parts:
            file.write(part)
        file.seek(0)
    except OSError as error:
        file.close()
        raise _no_room(error) from None
    return file


async def send(file: BinaryIO) -> AsyncIterator[bytes]:
    """Yield a file piece by piece, and close it at the end or when nobody wants more."""
    with file:
        while piece := await asyncio.to_thread(file.read, _PIECE):
            yield piece


async def _timely(pieces: AsyncIterator[bytes], seconds: float) -> AsyncIterator[bytes]:
    while True:
        try:
            async with asyncio.timeout(seconds):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise too_slow(seconds) from None
        yield piece


def _file() -> BinaryIO:
    try:
        return tempfile.TemporaryFile(prefix="causalrn-")
    except OSError as error:
        raise _no_room(error) from None


def _no_room(error: OSError) -> UnavailableError:
    return UnavailableError(f"the server has no room for a file: {error.strerror}; try again later")
