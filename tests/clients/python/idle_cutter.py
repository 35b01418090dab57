"""A relay that closes idle connections at the worst moment: just when a request comes over them."""

import asyncio
import contextlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from anyio.from_thread import start_blocking_portal


@dataclass
class IdleCutter:
    """Relays one request a connection, and hangs up on the next one without passing it on.

    Attributes:
        url: Where it listens.
        n_cut: How many requests it hung up on.
    """

    upstream: str
    url: str = ""
    n_cut: int = 0
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves a connection."""
        address = urlsplit(self.upstream)
        server_reader, server_writer = await asyncio.open_connection(address.hostname, address.port)
        self._open |= {writer, server_writer}
        answers = asyncio.create_task(_pass_on(server_reader, writer))
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            server_writer.write(await _read_request(reader))
            await server_writer.drain()
            if await reader.read(1):
                self.n_cut += 1
        answers.cancel()
        for end in (writer, server_writer):
            end.close()

    async def stop(self) -> None:
        """Closes what is left."""
        for writer in self._open:
            writer.close()
        closed = (writer.wait_closed() for writer in self._open)
        await asyncio.gather(*closed, return_exceptions=True)


async def _read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return head + await reader.readexactly(int(length[1]) if length else 0)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65536):
        writer.write(piece)
    writer.close()


@contextmanager
def idle_cutter(upstream: str) -> Iterator[IdleCutter]:
    """Runs one in front of a server."""
    with start_blocking_portal() as portal:
        relay = IdleCutter(upstream)

        async def start() -> asyncio.Server:
            return await asyncio.start_server(relay.serve, "127.0.0.1", 0)

        async def stop() -> None:
            listener.close()
            await relay.stop()
            await listener.wait_closed()

        listener = portal.call(start)
        relay.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        try:
            yield relay
        finally:
            portal.call(stop)
