"""Who uses which page of the memory pool."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator

from causalrn.server.engine.kept_states import KeptStates


class BlockAllocator:
    """Hands out pages of a pool, counts who uses them, and takes them back.

    When the last user of a page frees it, the page becomes blank and loses its row. A page that was
    kept does not: its content stays for others to share, until `reclaim` gives it up.

    Args:
        n_pages: pages in the pool; ids run from 0.
        page_size: tokens that a page holds.
        states: knows which pages have a row for a state.
    """

    def __init__(self, n_pages: int, page_size: int, states: KeptStates | None = None) -> None:
        if n_pages < 1 or page_size < 1:
            raise ValueError(f"need at least one page and token, got {n_pages} and {page_size}")
        self.n_pages = n_pages
        self.page_size = page_size
        self._states = states or KeptStates(n_pages, 1)
        # A stack: the page that was freed last is handed out first, while it is warm in the cache.
        self._blank = list(range(n_pages - 1, -1, -1))
        self._users = [0] * n_pages
        self._kept = bytearray(n_pages)
        self._unused: OrderedDict[int, None] = OrderedDict()  # kept pages without users

    @property
    def n_blank(self) -> int:
        """Pages that nobody uses and whose content is not kept."""
        return len(self._blank)

    @property
    def n_free(self) -> int:
        """Pages that nobody uses, those with kept content included."""
        return len(self._blank) + len(self._unused)

    @property
    def n_used(self) -> int:
        """Pages that somebody uses."""
        return self.n_pages - self.n_free

    @property
    def n_kept(self) -> int:
        """Pages that nobody uses, but whose content is kept."""
        return len(self._unused)

    @property
    def unused(self) -> Iterator[int]:
        """The pages that nobody uses, but whose content is kept; longest unused first."""
        return iter(self._unused)

    def n_users(self, page: int) -> int:
        """How many users a page has."""
        return self._users[page]

    def pages_for(self, n_tokens: int) -> int:
        """Pages that hold `n_tokens` tokens."""
        return -(-n_tokens // self.page_size)

    def allocate(self, n: int) -> list[int]:
        """Take `n` blank pages for one user.

        Raises:
            MemoryError: fewer than `n` pages are blank; nothing is taken then.
        """
        if n > len(self._blank):
            raise MemoryError(f"asked for {n} pages, {len(self._blank)} of {self.n_pages} are free")
        pages = [self._blank.pop() for _ in range(n)]
        for page in pages:
            self._users[page] = 1
        return pages

    def reclaim(self) -> int:
        """Give up the content of the kept page that has been unused longest, and return the page.

        Raises:
            KeyError: there is none.
        """
        page, _ = self._unused.popitem(last=False)
        self._kept[page] = 0
        self._clear(page)
        return page

    def share(self, pages: Iterable[int]) -> None:
        """Add a user to pages that are in use, or kept.

        Raises:
            ValueError: a page that is neither.
        """
        for page in pages:
            if not self._users[page]:
                if not self._kept[page]:
                    raise ValueError(f"page {page} is shared, but nobody uses or keeps it")
                del self._unused[page]
            self._users[page] += 1

    def keep(self, page: int) -> None:
        """Keep the content of a page in use even after its last user has freed it.

        Raises:
            ValueError: nobody uses the page.
        """
        if not self._users[page]:
            raise ValueError(f"page {page} is kept, but nobody uses it")
        self._kept[page] = 1

    def unkeep(self, page: int) -> None:
        """Keep the content of a page only as long as it has users."""
        self._kept[page] = 0
        if page in self._unused:
            del self._unused[page]
            self._clear(page)

    def free(self, pages: list[int]) -> None:
        """Take a user from each of these pages. Of those that are kept, the last is given up first.

        Raises:
            ValueError: a page that nobody uses, which would hand it to two users later.
        """
        for page in reversed(pages):
            if not self._users[page]:
                raise ValueError(f"page {page} is freed, but nobody uses it")
            self._users[page] -= 1
            if not self._users[page]:
                if self._kept[page]:
                    self._unused[page] = None
                else:
                    self._clear(page)

    def _clear(self, page: int) -> None:
        self._states.drop(page)
        self._blank.append(page)
