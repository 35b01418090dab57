"""Who owns which page of the memory pool."""


class BlockAllocator:
    """Hands out pages of a pool and takes them back.

    Args:
        n_pages: pages in the pool; ids run from 0.
        page_size: tokens that a page holds.
    """

    def __init__(self, n_pages: int, page_size: int) -> None:
        if n_pages < 1 or page_size < 1:
            raise ValueError(f"need at least one page and token, got {n_pages} and {page_size}")
        self.n_pages = n_pages
        self.page_size = page_size
        # A stack: the page that was freed last is handed out first, while it is warm in the cache.
        self._free = list(range(n_pages - 1, -1, -1))
        self._owned = bytearray(n_pages)

    @property
    def n_free(self) -> int:
        """Pages that nobody owns."""
        return len(self._free)

    @property
    def n_used(self) -> int:
        """Pages that somebody owns."""
        return self.n_pages - len(self._free)

    def pages_for(self, n_tokens: int) -> int:
        """Pages that hold `n_tokens` tokens."""
        return -(-n_tokens // self.page_size)

    def allocate(self, n: int) -> list[int]:
        """Take `n` pages.

        Raises:
            MemoryError: fewer than `n` pages are free; nothing is taken then.
        """
        if n > len(self._free):
            raise MemoryError(f"asked for {n} pages, {len(self._free)} of {self.n_pages} are free")
        pages = [self._free.pop() for _ in range(n)]
        for page in pages:
            self._owned[page] = 1
        return pages

    def free(self, pages: list[int]) -> None:
        """Give pages back.

        Raises:
            ValueError: a page that nobody owns, which would hand it to two owners later.
        """
        for page in reversed(pages):
            if not self._owned[page]:
                raise ValueError(f"page {page} is freed, but nobody owns it")
            self._owned[page] = 0
            self._free.append(page)
