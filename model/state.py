"""Storage of what a decoder remembers of its sequences: the paged pool and the fixed-size state.

Storage only: who owns which page, slot and row is decided elsewhere.

What a sequence keeps besides its pool, its *state*, lies in its slot. Whenever a sequence fills a
page for which it was given a row, `Decoder.extend` copies the state to that row: whoever begins
alike can go on from there. Rows are as many as their owner wants; a page without one is memory that
has to be gone past.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
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
        slots: `[S]` int64, the state slot of each sequence, all different.
        block_tables: `[S, M]` int32, the pages of each sequence's pool in order: entry k holds
            tokens `k·page_size` to `(k + 1)·page_size - 1`. Entries past the last page that a
            sequence needs are not read.
        state_tables: `[S, M]` int32, for each of these pages the row that keeps the state at its
            end, or -1 for none; none for all of them if left out.
    """

    token_ids: NDArray[np.int64]
    starts: NDArray[np.int64]
    context_lens: NDArray[np.int64]
    slots: NDArray[np.int64]
    block_tables: NDArray[np.int32]
    state_tables: NDArray[np.int32] = field(default_factory=lambda: np.empty((0, 0), np.int32))

    def __post_init__(self) -> None:
        """Keep no state if no row is given for it."""
        if self.state_tables.shape != self.block_tables.shape:
            none = np.full(self.block_tables.shape, -1, np.int32)
            object.__setattr__(self, "state_tables", none)


@dataclass(frozen=True)
class TensorSpec:
    """One tensor that a layer keeps, of every token or of every sequence.

    Attributes:
        name: of the tensor, unique in its layer; snapshots have it.
        shape: of one token's part, or of one sequence's; at least one axis.
        dtype: NumPy's name of it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def n_bytes(self) -> int:
        """Memory of one token's part, or of one sequence's."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class LayerSpec:
    """What one layer keeps.

    Attributes:
        pool: tensors of every token, in pages that grow with a sequence.
        state: tensors of every sequence, in its slot, all zeros where a sequence begins.
    """

    pool: tuple[TensorSpec, ...] = ()
    state: tuple[TensorSpec, ...] = ()


@dataclass(frozen=True)
class LayerState:
    """Storage of one layer, by the names of its tensors.

    Attributes:
        pool: for a tensor of shape `(*S, K)` a token, `[n_pages, *S, page_size, K]`.
        state: for a tensor of shape `S` a sequence, `[n_slots + n_rows, *S]`: slots, then rows.
    """

    pool: Mapping[str, Tensor]
    state: Mapping[str, Tensor]

    @cached_property
    def pool_arrays(self) -> dict[str, NDArray[Any]]:
        """The pool as NumPy arrays on the same memory, for a device that NumPy can reach."""
        return {name: tensor.numpy() for name, tensor in self.pool.items()}

    @cached_property
    def state_arrays(self) -> dict[str, NDArray[Any]]:
        """The state as NumPy arrays on the same memory, for a device that NumPy can reach."""
        return {name: tensor.numpy() for name, tensor in self.state.items()}


@dataclass(frozen=True)
class SequenceMemory:
    """All that a decoder remembers of one sequence, on its own: what `extend` made of its tokens.

    Attributes:
        counters: `[C]` int64, what the embedding keeps.
        pools: one mapping a layer, by the names of its tensors: `[T, K]` for a tensor of K numbers
            a token, heads side by side.
        states: one mapping a layer, by the names of its tensors.
    """

    counters: NDArray[np.int64]
    pools: list[dict[str, NDArray[Any]]]
    states: list[dict[str, NDArray[Any]]]


class DecoderState:
    """Paged pools, slots and rows of every layer, for many sequences.

    Args:
        layers: what each layer keeps.
        n_pages: pages; one page holds `page_size` tokens in every layer that has a pool.
        page_size: tokens a page, a multiple of 16.
        n_slots: sequences that can be held at once.
        n_rows: states that can be kept at the ends of pages.
        n_counters: int64 counters a sequence (positions).
        device: where the tensors are.

    Attributes:
        counters: `[n_slots + n_rows, n_counters]` int64: slots, then rows.
        layers: storage of each layer.
        scratch: for whatever the backend that made this needs from step to step.
    """

    def __init__(
        self,
        layers: Sequence[LayerSpec],
        *,
        n_pages: int,
        page_size: int,
        n_slots: int,
        n_rows: int = 0,
        n_counters: int,
        device: str = "cpu",
        scratch: Any = None,
    ) -> None:
        if page_size < 16 or page_size % 16:
            raise ValueError(f"page_size must be a multiple of 16, got {page_size}")
        if n_pages < 0 or n_slots < 1 or n_rows < 0:
            raise ValueError(
                f"need n_pages >= 0, n_slots >= 1 and n_rows >= 0, got {n_pages}, {n_slots} and "
                f"{n_rows}"
            )
        self.specs = list(layers)
        self.n_pages, self.page_size = n_pages, page_size
        self.n_slots, self.n_rows = n_slots, n_rows
        self.bytes_per_state = 8 * n_counters + sum(
            spec.n_bytes for layer in layers for spec in layer.state
        )
        self.bytes_per_page = page_size * sum(
            spec.n_bytes for layer in layers for spec in layer.pool
        )
        n_states = n_slots + n_rows
        self.counters = torch.zeros(n_states, n_counters, dtype=torch.int64, device=device)
        self.layers = [
            LayerState(
                {
                    spec.name: torch.empty(
                        n_pages, *spec.shape[:-1], page_size, spec.shape[-1],
                        dtype=getattr(torch, spec.dtype), device=device,
                    )
                    for spec in layer.pool
                },
                {
                    spec.name: torch.zeros(
                        n_states, *spec.shape, dtype=getattr(torch, spec.dtype), device=device
                    )
                    for spec in layer.state
                },
            )
            for layer in layers
        ]  # fmt: skip
        self.scratch = scratch
        self.counter_array = self.counters.numpy() if device == "cpu" else None
        self._states = [self.counters, *(t for layer in self.layers for t in layer.state.values())]
        self._pools = [tensor for layer in self.layers for tensor in layer.pool.values()]

    def row(self, index: int) -> int:
        """Where row `index`, from 0 on, lies in the tensors of states, behind the slots."""
        return self.n_slots + index

    def tensor_bytes(self) -> dict[tuple[int, str], int]:
        """Memory of every tensor, by the number of its layer and its name."""
        return {
            (number, name): tensor.nbytes
            for number, layer in enumerate(self.layers)
            for name, tensor in (*layer.pool.items(), *layer.state.items())
        }

    def reset_slot(self, slot: int) -> None:
        """Make a slot ready for a new sequence. Pages need no reset: they are written first."""
        for states in self._states:
            states[slot] = 0

    def copy_state(self, source: int, target: int) -> None:
        """Copy a state: from a slot to a row that is to keep it, or back to go on from there.

        Args:
            source, target: slots, or what `row` gives.
        """
        for states in self._states:
            states[target] = states[source]

    def copy_page(self, page: int, copy: int) -> None:
        """Copy a page's memories."""
        for pool in self._pools:
            pool[copy] = pool[page]

    def export(self, pages: Sequence[int], n_tokens: int, row: int) -> SequenceMemory:
        """Copy what lies in the pages of a sequence, and the state that is kept of it.

        Args:
            pages: of the sequence, in order.
            n_tokens: that they hold.
            row: what `row` gives, or a slot.
        """
        return SequenceMemory(
            self.counters[row].cpu().numpy().copy(),
            [
                {
                    name: pool[list(pages)].movedim(-2, 1).flatten(0, 1).flatten(1)[:n_tokens]
                    .cpu().numpy().copy()
                    for name, pool in layer.pool.items()
                }
                for layer in self.layers
            ],
            [
                {name: states[row].cpu().numpy().copy() for name, states in layer.state.items()}
                for layer in self.layers
            ],
        )  # fmt: skip

    def load(self, pages: Sequence[int], memory: SequenceMemory, row: int) -> None:
        """Write what `export` gave into other pages, as many as its tokens need, and a row."""
        self.counters[row] = torch.from_numpy(memory.counters)
        for layer, pools, states in zip(self.layers, memory.pools, memory.states, strict=True):
            for name, kept in states.items():
                layer.state[name][row] = torch.from_numpy(kept)
            for name, pool in layer.pool.items():
                n_tokens = len(pools[name])
                rows = np.zeros(
                    (len(pages) * self.page_size, pools[name].shape[1]), pools[name].dtype
                )
                rows[:n_tokens] = pools[name]
                shape = pool.shape[1:-2] + pool.shape[-1:]
                split = torch.from_numpy(rows).reshape(len(pages), self.page_size, *shape)
                pool[list(pages)] = split.movedim(1, -2).to(pool.device)
