"""Where the memory of each slot's sequence is, in the form that the decoder reads."""

from collections.abc import Callable

import numpy as np


class BlockTables:
    """Tables that grow with their sequences, so that no step writes them anew.

    Args:
        n_slots: sequences that may run at once.
        n_pages: pages of the longest sequence.
        row_of: the row where the state at the end of a page is kept; -1 if it is not.

    Attributes:
        pages: int32 `[n_slots, n_pages]`, the pages of the sequence in each slot.
        rows: int32 of the same shape, the rows of these pages.
    """

    def __init__(self, n_slots: int, n_pages: int, row_of: Callable[[int], int]) -> None:
        self.pages = np.zeros((n_slots, n_pages), np.int32)
        self.rows = np.full_like(self.pages, -1)
        self._row_of = row_of
        self._n_known = [0] * n_slots

    def clear(self, slot: int) -> None:
        """Begin anew, as the slot has another sequence."""
        self._n_known[slot] = 0

    def extend(self, slot: int, pages: list[int]) -> None:
        """Add those pages of a slot's sequence that have come since the last call."""
        known = self._n_known[slot]
        if known != len(pages):
            self.pages[slot, known : len(pages)] = pages[known:]
            self.rows[slot, known : len(pages)] = list(map(self._row_of, pages[known:]))
            self._n_known[slot] = len(pages)
