"""Full pages of tokens that may come again, so that they need not be computed again."""

from dataclasses import dataclass
from itertools import count

from causalrn.server.engine.block_allocator import BlockAllocator
from causalrn.server.engine.kept_states import KeptStates
from causalrn.server.engine.sequence import ROOT, Sequence

_Key = tuple[int, tuple[int, ...]]  # the chain's link before a page, and the tokens of the page


@dataclass
class PrefixCacheStats:
    """How many tokens were looked up, and how many of them were found."""

    queries: int = 0
    hits: int = 0


class PrefixCache:
    """Finds the pages that hold the beginning of a sequence.

    Pages form chains. A page is found by the link of the page before it and its own tokens, which
    are compared, not only hashed; a link is a number that is never given twice. So what is found
    can only be memory of exactly these tokens after exactly those before them. Every owner has
    chains of its own: how fast a prompt is read tells nobody what others have sent.

    Args:
        allocator: counts the users of pages.
        states: knows the rows of pages. A sequence can go on only from a page that has one.
    """

    def __init__(self, allocator: BlockAllocator, states: KeptStates) -> None:
        self.stats = PrefixCacheStats()
        self._allocator = allocator
        self._states = states
        self._pages: dict[_Key, tuple[int, int]] = {}  # to page and link
        self._keys: dict[int, _Key] = {}  # of cached pages
        self._links = count(ROOT + 1)
        self._roots = {"": ROOT}

    @property
    def n_pages(self) -> int:
        """Pages that can be found."""
        return len(self._pages)

    def find(self, token_ids: list[int], owner: str = "") -> tuple[list[int], int]:
        """The longest chain of cached pages from which a sequence can go on.

        It ends with a page that has a row. One token is always left to compute, since only that
        gives logits.

        Args:
            token_ids: the sequence's tokens.
            owner: only this owner's pages are found.

        Returns:
            The pages, and the link of the last; the caller shares them before it allocates any.
        """
        size = self._allocator.page_size
        pages: list[int] = []
        n_pages, last, link = 0, (root := self._root(owner)), root
        for start in range(0, (len(token_ids) - 1) // size * size, size):
            found = self._pages.get((link, tuple(token_ids[start : start + size])))
            if found is None:
                break
            page, link = found
            pages.append(page)
            if page in self._states:
                n_pages, last = len(pages), link
        return pages[:n_pages], last

    def count(self, n_tokens: int, n_found: int) -> None:
        """Count a lookup whose result was used."""
        self.stats.queries += n_tokens
        self.stats.hits += n_found

    def add(self, sequence: Sequence) -> None:
        """Let other sequences find those pages of a sequence that are full by now."""
        size = self._allocator.page_size
        while (sequence.n_chained + 1) * size <= sequence.n_computed:
            page = sequence.pages[sequence.n_chained]
            start = sequence.n_chained * size
            link = sequence.link if sequence.n_chained else self._root(sequence.owner)
            key = link, tuple(sequence.token_ids[start : start + size])
            if (found := self._pages.get(key)) is None:
                sequence.link = next(self._links)
                self._put(key, page, sequence.link)
            else:  # another sequence came first; both pages hold the same
                known, sequence.link = found
                if page in self._states and known not in self._states:
                    self._allocator.unkeep(known)
                    self.forget(known)
                    self._put(key, page, sequence.link)
            sequence.n_chained += 1

    def _root(self, owner: str) -> int:
        """What the chains of an owner begin with; it is no page's link."""
        return self._roots.setdefault(owner, ROOT - len(self._roots))

    def forget(self, page: int) -> None:
        """Stop finding a page, since its content is given up."""
        del self._pages[self._keys.pop(page)]

    def _put(self, key: _Key, page: int, link: int) -> None:
        self._pages[key] = page, link
        self._keys[page] = key
        self._allocator.keep(page)
