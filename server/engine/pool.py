"""The memory pool: its pages, what they are kept for, and what is given up to make room."""

from collections.abc import Collection

from server.engine.block_allocator import BlockAllocator
from server.engine.kept_states import KeptStates
from server.engine.prefix_cache import PrefixCache
from server.engine.warm_sessions import WarmSessions


class Pool:
    """Pages of running sequences, of idle sessions, and of beginnings that may come again.

    All that is given up to make room is given up here: first what is kept for a beginning that may
    come again, longest unused first; then the memory of idle sessions, oldest use first. Running
    sequences are the scheduler's.

    Args:
        n_pages: pages; ids run from 0.
        page_size: tokens that a page holds.
        n_rows: states that can be kept at the ends of pages; as many as pages if left out.
        state_every: pages of a sequence from one kept state to the next.

    Attributes:
        allocator: counts the users of pages.
        states: the rows of pages.
        cache: the beginnings.
        sessions: the idle sessions.
        n_evictions: idle sessions that lost their memory to others.
    """

    def __init__(
        self, n_pages: int, page_size: int, *, n_rows: int | None = None, state_every: int = 1
    ) -> None:
        self.states = KeptStates(n_pages if n_rows is None else n_rows, state_every)
        self.allocator = BlockAllocator(n_pages, page_size, self.states)
        self.cache = PrefixCache(self.allocator, self.states)
        self.sessions = WarmSessions(self.allocator)
        self.n_evictions = 0

    def make_room(self, n_pages: int, spare: Collection[str] = ()) -> bool:
        """Have pages that nobody uses, if need be those of idle sessions.

        Args:
            n_pages: pages wanted.
            spare: sessions that keep theirs.

        Returns:
            Whether there are as many. If the pages of all sessions, those that are shared counted
            for each, would not be enough, no session loses any.
        """
        allocator, sessions = self.allocator, self.sessions
        if allocator.n_free >= n_pages:
            return True
        idle = [id for id in sessions.ids if id not in spare]
        if allocator.n_free + sum(map(sessions.n_pages, idle)) < n_pages:
            return False
        for id in idle:
            self._evict(id)
            if allocator.n_free >= n_pages:
                return True
        return False  # running sequences share some of these pages

    def take(self, n: int) -> list[int]:
        """Take pages for one user, for which there is room.

        Raises:
            MemoryError: fewer than `n` pages have no user; nothing is taken then.
        """
        allocator = self.allocator
        while allocator.n_blank < n <= allocator.n_free:
            self.cache.forget(allocator.reclaim())
        return allocator.allocate(n)

    def keep_state(self, page: int, *, at_any_price: bool = False) -> bool:
        """Give a page a row for the state at its end, if need be that of a page nobody uses.

        Args:
            page: somebody's.
            at_any_price: whether idle sessions lose theirs, too.

        Returns:
            Whether it has one.
        """
        states = self.states
        while states.is_full and page not in states:
            unused = next((one for one in self.allocator.unused if one in states), None)
            if unused is not None:
                states.drop(unused)
            elif at_any_price and self.sessions.ids:
                self._evict(self.sessions.ids[0])
            else:
                return False
        states.take(page)
        return True

    def _evict(self, id: str) -> None:
        self.sessions.drop(id)
        self.n_evictions += 1
