"""Storage of what a decoder remembers of its sequences: the paged pool and the fixed-size state.

Storage only: who owns which page and slot is decided elsewhere.

A sequence's *fixed-size state* (counters, running sums, tails) lies in its slot. Whenever the
sequence fills a page, `Decoder.extend` copies that state to the page's own row, behind the slots: a
full page so holds all that it takes to go on from its end, for any sequence that begins alike.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class RaggedBatch:
    """New tokens of several sequences, and where each sequence's memory lies.

    Attributes:
        token_ids: `[N]` int64, one sequence after the other.
        starts: `[S + 1]` int64; sequence s brings `token_ids[starts[s]:starts[s + 1]]`, at least
            one token.
        context_lens: `[S]` int64, tokens that each sequence already holds in its pool.
        slots: `[S]` int64, the fixed-size state slot of each sequence, all different.
        block_tables: `[S, M]` int32, the pages of each sequence's pool in order: entry k holds
            tokens `k·page_size` to `(k + 1)·page_size - 1`. Entries past the last page that a
            sequence needs are not read.
    """

    token_ids: NDArray[np.int64]
    starts: NDArray[np.int64]
    context_lens: NDArray[np.int64]
    slots: NDArray[np.int64]
    block_tables: NDArray[np.int32]


@dataclass(frozen=True)
class LayerSpec:
    """What one layer keeps.

    Attributes:
        pool_width: float32 numbers a token in the paged pool; 0 for a layer that needs no pool.
        n_head: heads that the pool's numbers are split into.
        sum_width: float64 running sums a sequence; 0 for none.
        tail_shape: shape of the last tokens' inputs that a sequence keeps, `(W - 1, D)`.
    """

    pool_width: int
    n_head: int
    sum_width: int
    tail_shape: tuple[int, int]


@dataclass(frozen=True)
class LayerState:
    """Storage of one layer. Rows are slots, then pages.

    Attributes:
        pool: `[n_pages, H, page_size, K]` float32 memories; no pages if none are kept.
        sums: `[n_slots + n_pages, sum_width]` float64.
        tails: `[n_slots + n_pages, W - 1, D]` float32.
    """

    pool: Tensor
    sums: Tensor
    tails: Tensor

    @cached_property
    def arrays(self) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float32]]:
        """The three as NumPy arrays on the same memory."""
        return self.pool.numpy(), self.sums.numpy(), self.tails.numpy()


class Workspace:
    """Scratch that steps share, so that they need not allocate.

    Attributes:
        x, z, readers, memories: `[N, D]` float32.
        a, b, o: `[N, R]` float32.
        partials: `[n_segments, N, R]` float32.
    """

    def __init__(self, d_model: int, d_relation: int) -> None:
        self._widths = d_model, d_relation
        self._n_rows = self._n_segments = 0
        self.make_room(1, 1)

    def make_room(self, n_rows: int, n_segments: int) -> None:
        """Have at least that many rows and segments from now on; what was in them is lost."""
        if n_rows <= self._n_rows and n_segments <= self._n_segments:
            return
        d, r = self._widths
        n_rows, n_segments = max(n_rows, self._n_rows), max(n_segments, self._n_segments)
        self._n_rows, self._n_segments = n_rows, n_segments
        self.x, self.z, self.readers, self.memories = np.empty((4, n_rows, d), np.float32)
        self.a, self.b, self.o = np.empty((3, n_rows, r), np.float32)
        self.partials = np.empty((n_segments, n_rows, r), np.float32)


class DecoderState:
    """Paged pools and fixed-size slots of every layer, for many sequences.

    Args:
        layers: what each layer keeps.
        n_pages: pages; one page holds `page_size` tokens in every layer that has a pool.
        page_size: tokens a page, a multiple of 16.
        n_slots: sequences that can be held at once.
        n_counters: int64 counters a sequence (positions).
        d_model, d_relation: widths of the rows of scratch that steps on this state share.
    """

    def __init__(
        self,
        layers: list[LayerSpec],
        *,
        n_pages: int,
        page_size: int,
        n_slots: int,
        n_counters: int,
        d_model: int = 0,
        d_relation: int = 0,
    ) -> None:
        if page_size < 16 or page_size % 16:
            raise ValueError(f"page_size must be a multiple of 16, got {page_size}")
        if n_pages < 0 or n_slots < 1:
            raise ValueError(f"need n_pages >= 0 and n_slots >= 1, got {n_pages} and {n_slots}")
        self.n_pages, self.page_size, self.n_slots = n_pages, page_size, n_slots
        self.bytes_per_slot = 8 * n_counters + sum(
            8 * spec.sum_width + 4 * spec.tail_shape[0] * spec.tail_shape[1] for spec in layers
        )
        pooled = page_size * 4 * sum(spec.pool_width for spec in layers)
        self.bytes_per_page = pooled + self.bytes_per_slot
        self.counters = torch.zeros(n_slots + n_pages, n_counters, dtype=torch.int64)
        self.layers = [_allocate(spec, n_pages, page_size, n_slots) for spec in layers]
        self.workspace = Workspace(d_model, d_relation)
        self.counter_array = self.counters.numpy()
        self._rows: list[NDArray[Any]] = [self.counter_array]
        for layer in self.layers:
            self._rows += layer.arrays[1:]

    def reset_slot(self, slot: int) -> None:
        """Make a slot ready for a new sequence. Pages need no reset: they are written first."""
        for rows in self._rows:
            rows[slot] = 0

    def restore_slot(self, slot: int, page: int) -> None:
        """Make a slot ready to go on from the end of a full page."""
        self._copy_row(self.n_slots + page, slot)

    def fork(self, slot: int, into: int, page: int, copy: int) -> None:
        """Copy a slot, and the memories of a page that is not full, for a second sequence.

        Args:
            slot, into: of the first and of the second sequence.
            page, copy: the last page of either.
        """
        self._copy_row(slot, into)
        for layer in self.layers:
            if len(layer.pool):
                layer.pool[copy] = layer.pool[page]

    def _copy_row(self, source: int, target: int) -> None:
        for rows in self._rows:
            rows[target] = rows[source]


def _allocate(spec: LayerSpec, n_pages: int, page_size: int, n_slots: int) -> LayerState:
    pages = n_pages if spec.pool_width else 0
    rows = n_slots + n_pages
    return LayerState(
        pool=torch.empty(pages, spec.n_head, page_size, spec.pool_width // spec.n_head),
        sums=torch.zeros(rows, spec.sum_width, dtype=torch.float64),
        tails=torch.zeros(rows, *spec.tail_shape),
    )
