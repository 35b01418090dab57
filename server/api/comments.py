"""Comment lines in a stream of events that is silent, lest a proxy takes it for dead."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

from starlette.types import Message, Send

COMMENT_SECONDS = 15.0
"""How long a stream may be silent. Proxies commonly lose patience after 30 or 60 seconds."""

_COMMENT: Message = {"type": "http.response.body", "body": b":\n\n", "more_body": True}


@asynccontextmanager
async def commented(send: Send, seconds: float) -> AsyncIterator[Send]:
    """A `send` for the events of a response that has begun, which are whole in each message.

    Until the block is left, it sends a comment after every so many seconds without an event.
    Clients skip comments, as the format demands.
    """
    loop = asyncio.get_running_loop()
    last = loop.time()

    def send_event(message: Message) -> Awaitable[None]:
        nonlocal last
        last = loop.time()
        return send(message)

    async def send_comments() -> None:
        while True:
            if (left := last + seconds - loop.time()) > 0:
                await asyncio.sleep(left)
            else:
                await send_event(_COMMENT)

    comments = asyncio.create_task(send_comments())
    try:
        yield send_event
    finally:
        comments.cancel()
