"""Large bodies in files without a name, so that slow clients hold none of the server's memory."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from typing import BinaryIO

from starlette.requests import Request

from causalrn.server.errors import UnavailableError
from causalrn.server.http.json_body import limited_body, too_slow

_PIECE = 1 << 20  # bytes that are read or written at a time
_PATIENCE = 60  # how many times as long as a short body a large one may take


async def receive(request: Request, limit: int) -> BinaryIO:
    """Receive a request's body into a file, which is rewound, and deleted when it is closed.

    A large body may take sixty times as long as a body of other routes, but each next piece must
    come within the time of one.

    Raises:
        BodyTooLargeError: it has more than `limit` bytes.
        RequestTimeoutError: no piece of it came for too long, or it took too long as a whole.
        UnavailableError: there is no room for it on the disk.
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
    """Write the parts of a body into a file, which is rewound, and deleted when it is closed.

    Raises:
        UnavailableError: there is no room for it on the disk.
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
    """Yield a file piece by piece, and close it at the end or when the client leaves."""
    with file:
        while piece := await asyncio.to_thread(file.read, _PIECE):
            yield piece


async def _timely(pieces: AsyncIterator[bytes], seconds: float) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    end = loop.time() + _PATIENCE * seconds
    while True:
        left = end - loop.time()
        try:
            async with asyncio.timeout(min(seconds, left)):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise too_slow(seconds if seconds < left else _PATIENCE * seconds) from None
        yield piece


def _file() -> BinaryIO:
    try:
        return tempfile.TemporaryFile(prefix="causalrn-")
    except OSError as error:
        raise _no_room(error) from None


def _no_room(error: OSError) -> UnavailableError:
    return UnavailableError(f"the server has no room for a file: {error.strerror}; try again later")
