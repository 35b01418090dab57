"""Where the memory of each slot's sequence is, in the form that the decoder reads."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


class BlockTables:
    """Tables that grow with their sequences, so that no step writes them anew.

    Args:
        n_slots: sequences that may run at once.
        n_pages: pages of the longest sequence.
        row_of: the row where the state at the end of a page is kept; -1 if it is not.
    """

    def __init__(self, n_slots: int, n_pages: int, row_of: Callable[[int], int]) -> None:
        self._pages = np.zeros((n_slots, n_pages), np.int32)
        self._rows = np.full_like(self._pages, -1)
        self._row_of = row_of
        self._n_known = [0] * n_slots

    def clear(self, slot: int) -> None:
        """Begin anew, as the slot has another sequence."""
        self._n_known[slot] = 0

    def extend(self, slot: int, pages: list[int]) -> None:
        """Add those pages of a slot's sequence that have come since the last call."""
        known = self._n_known[slot]
        if known != len(pages):
            self._pages[slot, known : len(pages)] = pages[known:]
            self._rows[slot, known : len(pages)] = list(map(self._row_of, pages[known:]))
            self._n_known[slot] = len(pages)

    def of(
        self, slots: NDArray[np.int64], n_pages: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The first pages of the sequences in some slots, and the rows of these pages.

        Returns:
            Two arrays `[len(slots), n_pages]`, to be read before the tables change. What they say
            of pages that a sequence does not have means nothing.
        """
        if len(slots) == 1:  # a view costs a tenth of a copy, which counts in so short a step
            slot = int(slots[0])
            return self._pages[slot : slot + 1, :n_pages], self._rows[slot : slot + 1, :n_pages]
        return self._pages[slots, :n_pages], self._rows[slots, :n_pages]
