"""Storage of what a decoder remembers of its sequences: the paged pool and the fixed-size state.

Storage only: who owns which page and slot is decided elsewhere.
"""

from dataclasses import dataclass

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
    """Storage of one layer.

    Attributes:
        pool: `[n_pages, H, page_size, K]` float32 memories; no pages if none are kept.
        sums: `[n_slots, sum_width]` float64.
        tails: `[n_slots, W - 1, D]` float32.
    """

    pool: Tensor
    sums: Tensor
    tails: Tensor


class DecoderState:
    """Paged pools and fixed-size slots of every layer, for many sequences.

    Args:
        layers: what each layer keeps.
        n_pages: pages; one page holds `page_size` tokens in every layer that has a pool.
        page_size: tokens a page, a multiple of 16.
        n_slots: sequences that can be held at once.
        n_counters: int64 counters a sequence (positions).
    """

    def __init__(
        self,
        layers: list[LayerSpec],
        *,
        n_pages: int,
        page_size: int,
        n_slots: int,
        n_counters: int,
    ) -> None:
        if page_size < 16 or page_size % 16:
            raise ValueError(f"page_size must be a multiple of 16, got {page_size}")
        if n_pages < 0 or n_slots < 1:
            raise ValueError(f"need n_pages >= 0 and n_slots >= 1, got {n_pages} and {n_slots}")
        self.n_pages, self.page_size, self.n_slots = n_pages, page_size, n_slots
        self.bytes_per_page = page_size * 4 * sum(spec.pool_width for spec in layers)
        self.bytes_per_slot = 8 * n_counters + sum(
            8 * spec.sum_width + 4 * spec.tail_shape[0] * spec.tail_shape[1] for spec in layers
        )
        self.counters = torch.zeros(n_slots, n_counters, dtype=torch.int64)
        self.layers = [_allocate(spec, n_pages, page_size, n_slots) for spec in layers]

    def reset_slot(self, slot: int) -> None:
        """Make a slot ready for a new sequence. Pages need no reset: they are written first."""
        self.counters[slot] = 0
        for layer in self.layers:
            layer.sums[slot] = 0.0
            layer.tails[slot] = 0.0


def _allocate(spec: LayerSpec, n_pages: int, page_size: int, n_slots: int) -> LayerState:
    pages = n_pages if spec.pool_width else 0
    return LayerState(
        pool=torch.empty(pages, spec.n_head, page_size, spec.pool_width // spec.n_head),
        sums=torch.zeros(n_slots, spec.sum_width, dtype=torch.float64),
        tails=torch.zeros(n_slots, *spec.tail_shape),
    )
