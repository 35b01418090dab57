"""Storage of what a decoder remembers of its sequences: the paged pool and the fixed-size state.

Storage only: who owns which page and slot is decided elsewhere.

A sequence's *fixed-size state* (counters, running sums, tails) lies in its slot. Whenever the
sequence fills a page, `Decoder.extend` copies that state to the page's own row, behind the slots: a
full page so holds all that it takes to go on from its end, for any sequence that begins alike.
"""

from collections.abc import Sequence
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


@dataclass(frozen=True)
class SequenceMemory:
    """All that a decoder remembers of one sequence, on its own: what `extend` made of its tokens.

    Attributes:
        counters: `[C]` int64.
        pools: one a layer, `[T, R]` float32 memories of its T tokens, heads side by side; `[T, 0]`
            if the layer keeps none.
        sums: one a layer, `[sum_width]` float64.
        tails: one a layer, `[W - 1, D]` float32.
    """

    counters: NDArray[np.int64]
    pools: list[NDArray[np.float32]]
    sums: list[NDArray[np.float64]]
    tails: list[NDArray[np.float32]]


class Workspace:
    """Scratch that steps share, so that they need not allocate.

    Attributes:
        x, z, readers, memories: `[N, D]` float32.
        a, b, o: `[N, R]` float32.
        partials: `[n_segments, N, R]` float32.
        phases: `[N]` int64.
        all_active: `[N]` bool, all true.
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
        self.phases = np.empty(n_rows, np.int64)
        self.all_active = np.ones(n_rows, np.bool_)


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
        self.specs = layers
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
        """Make a slot ready to go on from the end of a full page, or from where it was saved."""
        self._copy_row(self.n_slots + page, slot)

    def save_slot(self, slot: int, page: int) -> None:
        """Save what a slot holds in the row of its sequence's last page."""
        self._copy_row(slot, self.n_slots + page)

    def copy_page(self, page: int, copy: int) -> None:
        """Copy a page's memories, and the state in its row."""
        self._copy_row(self.n_slots + page, self.n_slots + copy)
        for layer in self.layers:
            if len(layer.pool):
                layer.pool[copy] = layer.pool[page]

    def export(self, pages: Sequence[int], n_tokens: int) -> SequenceMemory:
        """Copy what lies in the pages of a sequence, and in the row of the last one."""
        row = self.n_slots + pages[-1]
        pools = []
        for layer in self.layers:
            pool = layer.arrays[0]
            if len(pool):
                rows = pool[pages].transpose(0, 2, 1, 3).reshape(-1, pool.shape[1] * pool.shape[3])
                pools.append(rows[:n_tokens].copy())
            else:
                pools.append(np.empty((n_tokens, 0), np.float32))
        return SequenceMemory(
            self.counter_array[row].copy(),
            pools,
            [layer.arrays[1][row].copy() for layer in self.layers],
            [layer.arrays[2][row].copy() for layer in self.layers],
        )

    def load(self, pages: Sequence[int], memory: SequenceMemory) -> None:
        """Write what `export` gave into other pages, as many as its tokens need."""
        row = self.n_slots + pages[-1]
        self.counter_array[row] = memory.counters
        for i, layer in enumerate(self.layers):
            pool, sums, tails = layer.arrays
            sums[row], tails[row] = memory.sums[i], memory.tails[i]
            if not len(pool):
                continue
            n_tokens, r = memory.pools[i].shape
            rows = np.zeros((len(pages) * self.page_size, r), np.float32)
            rows[:n_tokens] = memory.pools[i]
            split = rows.reshape(len(pages), self.page_size, *pool.shape[1::2])
            pool[pages] = split.transpose(0, 2, 1, 3)

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
