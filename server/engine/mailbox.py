"""What the event loop leaves for an engine's thread to find between two steps."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from server.engine.core import EngineCore
from server.engine.generation import Generation


@dataclass(frozen=True)
class Call:
    """What the engine's thread is to do between two steps, and where the result goes."""

    work: Callable[[EngineCore], Any]
    answer: asyncio.Future[Any]


@dataclass
class Mailbox:
    """New requests, and wishes about old ones. Knows nothing of the engine.

    Attributes:
        changed: to be held for every look at the others, and notified of every change.
        submitted: new requests.
        aborted: ids of those that are to end.
        calls: other work.
        stopping: whether the thread is to end.
    """

    changed: threading.Condition = field(default_factory=threading.Condition)
    submitted: list[Generation] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    stopping: bool = False

    def __bool__(self) -> bool:
        return bool(self.submitted or self.aborted or self.calls or self.stopping)

    def abort(self, id: str) -> None:
        """Have a request ended."""
        with self.changed:
            self.aborted.append(id)
            self.changed.notify()

    def take(self) -> tuple[list[Generation], list[str], list[Call]]:
        """Empty it."""
        taken = self.submitted, self.aborted, self.calls
        self.submitted, self.aborted, self.calls = [], [], []
        return taken
