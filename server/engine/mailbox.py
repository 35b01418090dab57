"""What the event loop leaves for an engine's thread to find between two steps."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from causalrn.server.engine.generation import Generation


@dataclass(frozen=True)
class Call:
    """What the engine's thread is to do between two steps, and where the result goes."""

    work: Callable[[Any], Any]
    answer: asyncio.Future[Any]


@dataclass
class Mailbox:
    """New requests, requests to end, and other work. Knows nothing of the engine.

    Attributes:
        changed: the lock of all that follows; it is notified of every change.
        submitted: new requests, each by its first sample.
        aborted: ids of the requests that are to end.
        calls: other work, and where its results go.
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
        """Have a request ended before the next step, unless it is over already."""
        with self.changed:
            self.aborted.append(id)
            self.changed.notify()

    def take(self) -> tuple[list[Generation], list[str], list[Call]]:
        """Take everything out but `stopping`, which stays as it is."""
        taken = self.submitted, self.aborted, self.calls
        self.submitted, self.aborted, self.calls = [], [], []
        return taken
