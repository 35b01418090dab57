"""What an app says when it cannot start."""

import asyncio

import pytest
from fastapi import FastAPI
from starlette.types import Message


def failed_start(app: FastAPI) -> str:
    """What an app that cannot start tells the server that runs it."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        sent.append(message)

    with pytest.raises(Exception):  # noqa: B017, PT011  # any: the message is what counts
        asyncio.run(app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send))
    (message,) = sent
    assert message["type"] == "lifespan.startup.failed"
    return str(message["message"])
