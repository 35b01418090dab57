"""Which pages have the state at their end kept, so that other sequences can go on from there."""

from collections.abc import Collection


class KeptStates:
    """Gives rows, which hold a state each, to pages.

    A state may be far larger than a page of the pool, so there may be fewer rows than pages.

    Args:
        n_rows: how many rows there are.
        every: pages of a sequence from one row to the next; 1 gives each page a row.
    """

    def __init__(self, n_rows: int, every: int) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self.every = every
        self._free = list(range(n_rows - 1, -1, -1))
        self._rows: dict[int, int] = {}

    @property
    def n_used(self) -> int:
        """How many rows are in use."""
        return len(self._rows)

    @property
    def is_full(self) -> bool:
        """Whether no row is left."""
        return not self._free

    def __contains__(self, page: int) -> bool:
        return page in self._rows

    def row(self, page: int) -> int | None:
        """The row of a page, if it has one."""
        return self._rows.get(page)

    def is_boundary(self, place: int, ends: Collection[int]) -> bool:
        """Whether a page should have a row.

        Args:
            place: of the page in its sequence, from 0.
            ends: numbers of pages after which others may begin in the same way, such as those that
                the sequence's prompt fills; the last of these pages has a row.
        """
        return (place + 1) % self.every == 0 or place + 1 in ends

    def take(self, page: int) -> int:
        """Give a page a row, unless it has one; there must be one left then."""
        if page not in self._rows:
            self._rows[page] = self._free.pop()
        return self._rows[page]

    def drop(self, page: int) -> None:
        """Take a page's row back, if it has one."""
        if (row := self._rows.pop(page, None)) is not None:
            self._free.append(row)
