"""What can be done to the memory of idle sessions while the engine serves other requests."""

from collections.abc import Callable

from causalrn.model.state import DecoderState, SequenceMemory
from causalrn.server.engine.scheduler import Scheduler
from causalrn.server.engine.warm_sessions import PoolUse, WarmSession


class PooledSessions:
    """The memory of idle sessions in an engine's pool. Belongs to the engine's thread.

    Args:
        state: the storage that the pool's pages and rows are of.
        scheduler: of the engine, whose pool this is about.
        row_of: the row where the state at the end of a page is kept; -1 if it is not.
    """

    def __init__(
        self, state: DecoderState, scheduler: Scheduler, row_of: Callable[[int], int]
    ) -> None:
        self._state = state
        self._scheduler = scheduler
        self._pool = scheduler.pool
        self._row_of = row_of

    def ids(self) -> list[str]:
        """The idle sessions that have memory in the pool."""
        return self._pool.sessions.ids

    def uses(self, ids: list[str]) -> list[PoolUse]:
        """How much of the pool each of some sessions has, idle or not."""
        return [self._scheduler.session_use(id) for id in ids]

    def fork(self, id: str, child: str) -> None:
        """Let a new session share the memory of an idle one."""
        self._pool.sessions.fork(id, child)

    def drop(self, id: str) -> None:
        """Give up the memory of an idle session, if it has any."""
        self._pool.sessions.drop(id)

    def export(self, id: str, token_ids: list[int]) -> tuple[int, SequenceMemory] | None:
        """Copy the memory of an idle session.

        Args:
            id: the session's id.
            token_ids: its log; memory of any other tokens is of no use.

        Returns:
            How many tokens of the log, from its beginning, the memory is of, and the memory; None
            if there is no memory of this log.
        """
        warm = self._pool.sessions.get(id)
        if warm is None or token_ids[: len(warm.token_ids)] != warm.token_ids:
            return None
        n_held, row = len(warm.token_ids), self._row_of(warm.pages[-1])
        return n_held, self._state.export(warm.pages, n_held, row)

    def restore(self, id: str, token_ids: list[int], memory: SequenceMemory) -> bool:
        """Put memory that `export` copied into the pool, as that of an idle session.

        Args:
            id: the session's id; what it had in the pool is given up.
            token_ids: the tokens that the memory is of.
            memory: the memory.

        Returns:
            Whether there was room for it beside the running requests; if not, the session is cold.
        """
        pool = self._pool
        pool.sessions.drop(id)
        n_pages = pool.allocator.pages_for(len(token_ids))
        if not n_pages or not pool.make_room(n_pages):
            return False
        pages = pool.take(n_pages)
        if not pool.keep_state(pages[-1], at_any_price=True):
            pool.allocator.free(pages)
            return False
        self._state.load(pages, memory, self._row_of(pages[-1]))
        pool.sessions.keep(id, WarmSession(token_ids, pages, private=True))
        return True
