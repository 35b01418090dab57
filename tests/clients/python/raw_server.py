"""A server that writes the bytes it is given and then cuts the connection, or says nothing more."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from anyio.from_thread import BlockingPortal, start_blocking_portal

STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


@dataclass(frozen=True)
class Reply:
    """What one connection gets: bytes, then the end, or silence until the client leaves.

    The bytes come after the request's body, or before it is read. More may drip after them, a piece
    every fifth of a second.
    """

    content: bytes = b""
    then_silence: bool = False
    before_body: bool = False
    drip: tuple[bytes, ...] = ()


@dataclass
class RawServer:
    """Gives its replies to one connection after the other; without any left, it just hangs up.

    Or, where it is to go away, listens no more.
    """

    replies: list[Reply]
    portal: BlockingPortal
    goes_away: bool = False
    url: str = ""
    listener: asyncio.Server | None = None
    n_served: int = 0

    @property
    def connections(self) -> int:
        """How many there were so far, those included that a busy machine has not accepted yet."""
        return self.portal.call(self._count)

    async def _count(self) -> int:
        for _ in range(20):  # from the listener to `serve` it takes a few turns of the loop
            await asyncio.sleep(0)
        return self.n_served

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.n_served += 1
        reply = self.replies.pop(0) if self.replies else Reply()
        if self.goes_away and not self.replies and self.listener is not None:
            self.listener.close()
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            if reply.before_body:
                writer.write(reply.content)
            left = int(length[1]) if length else 0
            while left:
                piece = await reader.read(left)
                if not piece:
                    return  # the client left first
                left -= len(piece)
            if not reply.before_body:
                writer.write(reply.content)
            await writer.drain()
            for piece in reply.drip:
                await asyncio.sleep(0.2)
                writer.write(piece)
            if reply.then_silence:
                await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client left first
        finally:
            writer.close()


@contextmanager
def raw_server(*replies: Reply, goes_away: bool = False) -> Iterator[RawServer]:
    with start_blocking_portal() as portal:
        server = RawServer(list(replies), portal, goes_away)

        async def start() -> asyncio.Server:
            return await asyncio.start_server(server.serve, "127.0.0.1", 0)

        async def stop() -> None:
            listener.close()
            await listener.wait_closed()

        listener = server.listener = portal.call(start)
        server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        try:
            yield server
        finally:
            portal.call(stop)


def http_reply(body: bytes, content_type: str = "application/json") -> Reply:
    """A whole answer; a client that did not know that it is the last might send on another."""
    head = (
        f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return Reply(head.encode() + body)


def chunked(data: bytes) -> bytes:
    """One piece of a body in HTTP's chunked encoding."""
    return b"%x\r\n%s\r\n" % (len(data), data)
