"""The memory pool: its pages, what they are kept for, and what is given up to make room."""

from collections.abc import Collection

from causalrn.server.engine.block_allocator import BlockAllocator
from causalrn.server.engine.kept_states import KeptStates
from causalrn.server.engine.prefix_cache import PrefixCache
from causalrn.server.engine.warm_sessions import WarmSessions


class Pool:
    """Pages of running sequences, of idle sessions, and of beginnings that may come again.

    What has to be given up to make room is chosen here: first what is kept for a beginning that may
    come again, longest unused first; then the memory of idle sessions, oldest use first. Which
    running sequence has to wait is for the scheduler to say.

    Args:
        n_pages: how many pages there are; ids run from 0.
        page_size: tokens that a page holds.
        n_rows: states that can be kept at the ends of pages; as many as pages if left out.
        state_every: pages of a sequence from one kept state to the next.

    Attributes:
        allocator: counts the users of pages.
        states: says which pages have a row.
        cache: finds the pages of beginnings.
        sessions: the memory of idle sessions.
        n_rows: states that can be kept at the ends of pages.
        n_evictions: idle sessions that lost their memory to others.
    """

    def __init__(
        self, n_pages: int, page_size: int, *, n_rows: int | None = None, state_every: int = 1
    ) -> None:
        self.n_rows = n_pages if n_rows is None else n_rows
        self.states = KeptStates(self.n_rows, state_every)
        self.allocator = BlockAllocator(n_pages, page_size, self.states)
        self.cache = PrefixCache(self.allocator, self.states)
        self.sessions = WarmSessions(self.allocator)
        self.n_evictions = 0

    def make_room(self, n_pages: int, spare: Collection[str] = ()) -> bool:
        """See to it that so many pages have no user, if need be by giving up idle sessions' memory.

        Args:
            n_pages: how many pages are wanted.
            spare: sessions that keep their memory.

        Returns:
            Whether there are enough. No session loses its memory if even that of all would not be
            enough, where pages that sessions share count for each of them.
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
        """Take pages for one user, after `make_room` has made room for them.

        Raises:
            MemoryError: fewer than `n` pages have no user; nothing is taken then.
        """
        allocator = self.allocator
        while allocator.n_blank < n <= allocator.n_free:
            self.cache.forget(allocator.reclaim())
        return allocator.allocate(n)

    def keep_state(self, page: int, *, at_any_price: bool = False) -> bool:
        """Give a page a row for the state at its end, if need be by taking it from an unused page.

        Args:
            page: a page in use.
            at_any_price: whether idle sessions may lose their memory for it.

        Returns:
            Whether the page has a row now.
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
