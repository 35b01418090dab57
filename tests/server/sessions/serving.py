"""Sessions that run for the length of a block, without HTTP, and those who ask for them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple

from causalrn.server.engine.engines import Engines
from causalrn.server.engine.generation import GenerationParams
from causalrn.server.sessions.sessions import Sessions
from causalrn.server.sessions.store.base import SessionStore
from tests.server.engine.running import read, running_engines
from tests.server.sessions.store.stores import opened
from tests.server.shelf import Shelf


@dataclass(frozen=True)
class Somebody:
    """A holder; by default one of a server without keys."""

    owner: str = ""
    sees: str | None = None
    max_sessions: int | None = None

    def reserve(self, n_tokens: int) -> None:
        """There is no quota."""


class Serving(NamedTuple):
    """Sessions, and the parts that they are made of."""

    sessions: Sessions
    engines: Engines
    store: SessionStore

    async def made(self, model: str | None = None) -> str:
        """The id of a new session."""
        return (await self.sessions.create(Somebody(), None, model)).record.id

    async def turn(self, id: str, text: str) -> str:
        """What a turn answers."""
        stream, turn = await self.sessions.turns.submit(
            Somebody(), id, text, GenerationParams(), wait=False, request_id="-"
        )
        answer = await read(stream)
        await turn.freed()
        return answer


@asynccontextmanager
async def serving(
    shelf: Shelf, *models: str, url: str, lease_seconds: float = 60.0
) -> AsyncIterator[Serving]:
    """Sessions of some models of a shelf, in a store; nothing is done for them unasked."""
    settings = shelf.settings(*models)
    async with (
        running_engines(shelf, settings) as engines,
        opened(url, lease_seconds) as store,
    ):
        sessions = Sessions(engines, store, settings)
        yield Serving(sessions, engines, store)
        await sessions.turns.stop()
