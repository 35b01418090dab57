"""A journal with a store that a test holds up and breaks, and those who read what it hands over."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from causalrn.server.engine.deltas import Delta, Outcome
from causalrn.server.errors import ServiceError
from causalrn.server.sessions.journal import Journal
from causalrn.server.sessions.store.base import Append
from causalrn.server.sessions.turn import Turn
from tests.server.session_client import EOS


class FakeStore:
    """A store of which only `append` is there, and which a test holds up and breaks.

    Attributes:
        logs: what is committed.
        done: sessions that were given back.
        commits: the ids of each commit.
        gaps: appends that were not to what is committed. Raised, they would be an error like
            any other to the journal, which would end the turns and go on.
        error: raised by the next commits, or, by id, what they return.
    """

    def __init__(self, *ids: str) -> None:
        self.logs: dict[str, list[int]] = {id: [] for id in ids}
        self.done: list[str] = []
        self.commits: list[list[str]] = []
        self.gaps: list[tuple[Append, int]] = []
        self.error: Exception | dict[str, ServiceError] | None = None
        self.may_commit = asyncio.Event()
        self.may_commit.set()
        self.waits = asyncio.Event()

    async def append(self, appends: Sequence[Append]) -> list[ServiceError | None]:
        self.commits.append([append.id for append in appends])
        self.waits.set()
        await self.may_commit.wait()
        if isinstance(self.error, Exception):
            raise self.error
        errors = self.error or {}
        for append in appends:
            if append.id not in errors:
                if append.start != (end := len(self.logs[append.id])):
                    self.gaps.append((append, end))
                self.logs[append.id] += append.token_ids
                self.done += [append.id] * append.done
        return [errors.get(append.id) for append in appends]


class Desk:
    """A journal, and what becomes of what is written.

    It passes on what the engine does: who is aborted is closed.
    """

    def __init__(self, store: Any) -> None:
        self.store = store
        self.handed_over: list[Outcome] = []
        self.aborted: dict[str, ServiceError] = {}
        self.freed: list[str] = []
        self.on_hand_over: Callable[[], None] = lambda: None
        self.journal = Journal(store, self._hand_over, self._abort)

    def open(self, id: str, n_tokens: int = 0, prompt: Sequence[int] = ()) -> Turn:
        turn = Turn(f"gen {id}", id, n_tokens, EOS, lambda: self.freed.append(id), prompt)
        self.journal.open(turn)
        return turn

    def write(self, id: str, *token_ids: int, **options: Any) -> None:
        self.journal.write((f"gen {id}", Delta(list(token_ids), "", **options)))

    async def flush(self) -> None:
        """Return when everything is committed or has failed; a log may have no gap then."""
        await self.journal.flush()
        if isinstance(self.store, FakeStore):
            assert self.store.gaps == []

    def token_ids(self, id: str) -> list[int]:
        """What the reader of a session got."""
        return [
            token_id
            for name, delta in self.handed_over
            if name == f"gen {id}" and isinstance(delta, Delta)
            for token_id in delta.token_ids
        ]

    def _hand_over(self, outcomes: list[Outcome]) -> None:
        self.handed_over += outcomes
        self.on_hand_over()

    def _abort(self, id: str, error: ServiceError) -> None:
        assert id not in self.aborted
        self.aborted[id] = error
        self.journal.close(id)
