"""One request at a time in every session; the others wait in the order in which they came.

A turn lasts, so that others are refused while one is in the session, unless they want to wait. All
else that needs a session, such as a fork, is done in a moment, for which everybody waits.
"""

import asyncio

from causalrn.server.sessions.store.refusals import busy


class SessionLocks:
    """Which sessions requests of this server use. Belongs to one event loop's thread."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: dict[str, int] = {}
        self._turns: dict[str, int] = {}  # those of the users that are turns
        self._held_by_turn: dict[str, bool] = {}

    def __contains__(self, id: str) -> bool:
        return id in self._locks

    def __len__(self) -> int:
        return len(self._locks)

    def n_users(self, id: str) -> int:
        """How many requests use a session or wait for it."""
        return self._users.get(id, 0)

    def has_turn(self, id: str) -> bool:
        """Whether a turn uses a session or waits for it."""
        return self._turns.get(id, 0) > 0

    async def acquire(self, id: str, *, wait: bool, is_turn: bool = False) -> None:
        """Lock a session for a request; `release` it afterwards.

        Args:
            id: the session's id; it need not exist.
            wait: whether to wait for turns, too.
            is_turn: whether the request is one.

        Raises:
            SessionBusyError: a turn uses it or waits for it, and `wait` is False.
        """
        if not wait and self.has_turn(id):
            raise busy(id)
        lock = self._locks.setdefault(id, asyncio.Lock())
        self._users[id] = self._users.get(id, 0) + 1
        self._turns[id] = self._turns.get(id, 0) + is_turn
        try:
            await lock.acquire()
        except BaseException:
            self._leave(id, is_turn)
            raise
        self._held_by_turn[id] = is_turn

    def release(self, id: str) -> None:
        """Unlock a session; the request that has waited longest gets it next."""
        self._locks[id].release()
        self._leave(id, self._held_by_turn.pop(id))

    def _leave(self, id: str, was_turn: bool) -> None:
        self._users[id] -= 1
        self._turns[id] -= was_turn
        if not self._users[id]:
            del self._users[id], self._turns[id], self._locks[id]
