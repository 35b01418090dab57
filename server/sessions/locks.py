"""One request at a time in every session; the others wait in the order in which they came."""

import asyncio

from server.sessions.store.refusals import busy


class SessionLocks:
    """Which sessions requests of this server use. Belongs to one event loop's thread."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: dict[str, int] = {}

    def __contains__(self, id: str) -> bool:
        return id in self._locks

    def __len__(self) -> int:
        return len(self._locks)

    def n_users(self, id: str) -> int:
        """How many requests use a session or wait for it."""
        return self._users.get(id, 0)

    async def acquire(self, id: str, *, wait: bool) -> None:
        """Lock a session for a request; `release` it afterwards.

        Args:
            id: the session's id; it need not exist.
            wait: whether to wait for other requests.

        Raises:
            SessionBusyError: another request uses it, and `wait` is False.
        """
        if id in self._locks and not wait:
            raise busy(id)
        lock = self._locks.setdefault(id, asyncio.Lock())
        self._users[id] = self._users.get(id, 0) + 1
        try:
            await lock.acquire()
        except BaseException:
            self._leave(id)
            raise

    def release(self, id: str) -> None:
        """Unlock a session; the request that has waited longest gets it next."""
        self._locks[id].release()
        self._leave(id)

    def _leave(self, id: str) -> None:
        self._users[id] -= 1
        if not self._users[id]:
            del self._users[id], self._locks[id]
