"""Storage of what a decoder remembers of its sequences: the paged pool and the fixed-size state.

Storage only: who owns which page, slot and row is decided elsewhere.

What a sequence keeps besides its pool, its *state*, lies in its slot. Whenever a sequence fills a
page for which it was given a row, `Decoder.extend` copies the state to that row, so that another
sequence that begins with the same tokens can go on from there. There need not be a row for every
page: where there is none, the other sequence goes on from an earlier row and computes the tokens in
between again.
"""

import mmap
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_NO_ROWS: NDArray[np.int32] = np.empty((0, 0), np.int32)  # stands for rows that were left out


@dataclass(frozen=True)
class RaggedBatch:
    """New tokens of several sequences, and where each sequence's memory lies.

    Attributes:
        token_ids: `[N]` int64, one sequence after the other. To a backend that runs ahead, `~k`
            is entry k of what the step before found: its `likeliest`, and behind them its `chosen`.
            If that turns out to be BOS or SEP, what is computed of the sequence means nothing.
        starts: `[S + 1]` int64; sequence s brings `token_ids[starts[s]:starts[s + 1]]`, at least
            one token.
        context_lens: `[S]` int64, tokens that each sequence already holds in its pool.
        slots: `[S]` int64, the state slot of each sequence, all different.
        block_tables: `[S, M]` int32, the pages of each sequence's pool in order: entry k holds
            tokens `k·page_size` to `(k + 1)·page_size - 1`. Entries past the last page that a
            sequence needs are not read.
        state_tables: `[S, M]` int32, for each of these pages the row that keeps the state at its
            end, or -1 for none. Left out, no state is kept.

    Raises:
        ValueError: `state_tables` has another shape than `block_tables`.
    """

    token_ids: NDArray[np.int64]
    starts: NDArray[np.int64]
    context_lens: NDArray[np.int64]
    slots: NDArray[np.int64]
    block_tables: NDArray[np.int32]
    state_tables: NDArray[np.int32] = field(default_factory=lambda: _NO_ROWS)

    def __post_init__(self) -> None:
        """Fill in the rows that were left out, and refuse others than the pages ask for."""
        if self.state_tables is _NO_ROWS:
            none = np.full(self.block_tables.shape, -1, np.int32)
            object.__setattr__(self, "state_tables", none)
        elif self.state_tables.shape != self.block_tables.shape:
            raise ValueError(
                f"state_tables must have the shape of block_tables, {self.block_tables.shape}, "
                f"got {self.state_tables.shape}"
            )


@dataclass(frozen=True)
class TensorSpec:
    """One tensor that a layer keeps, of every token or of every sequence.

    Attributes:
        name: unique in its layer; snapshots store the tensor under it.
        shape: of one token's part, or of one sequence's; at least one axis.
        dtype: its name in torch.
        derive: makes it from the others of a layer's pool, of T tokens each; all are `[T, K]` for K
            numbers a token. Such a tensor is no part of what is exported. None if it is.
        roundable: whether it is float32 and may be kept in bfloat16 instead.

    Raises:
        ValueError: the shape has no axis.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    derive: Callable[[Mapping[str, NDArray[Any]]], NDArray[Any]] | None = None
    roundable: bool = False

    def __post_init__(self) -> None:
        """Refuse what neither pages nor snapshots can hold."""
        if not self.shape:
            raise ValueError(f"the tensor {self.name!r} must have at least one axis")

    @property
    def n_bytes(self) -> int:
        """Bytes of one token's part, or of one sequence's."""
        itemsize: int = getattr(torch, self.dtype).itemsize
        return prod(self.shape) * itemsize


@dataclass(frozen=True)
class LayerSpec:
    """What one layer, which is a block, keeps of its sequences.

    Attributes:
        pool: tensors that every token has, in pages: they grow with the sequence.
        state: tensors that every sequence has, in its slot; all zeros at its beginning.

    Raises:
        ValueError: two tensors have the same name.
    """

    pool: tuple[TensorSpec, ...] = ()
    state: tuple[TensorSpec, ...] = ()

    @property
    def exported(self) -> tuple[TensorSpec, ...]:
        """The tensors of the pool that others cannot be made from."""
        return tuple(spec for spec in self.pool if spec.derive is None)

    def rounded(self) -> "LayerSpec":
        """The same, with bfloat16 wherever the pool may have it: half as many bytes."""
        pool = (replace(one, dtype="bfloat16") if one.roundable else one for one in self.pool)
        return replace(self, pool=tuple(pool))

    def __post_init__(self) -> None:
        """Refuse names that snapshots could not tell apart."""
        names = [spec.name for spec in (*self.pool, *self.state)]
        if len(set(names)) < len(names):
            raise ValueError(f"tensors of a layer must have different names, got {names}")


def sequence_bytes(layers: Iterable[LayerSpec], n_tokens: int) -> int:
    """Memory of a sequence of so many tokens, in all layers; pages that are not full, in part."""
    specs = list(layers)
    state = sum(tensor.n_bytes for spec in specs for tensor in spec.state)
    return state + n_tokens * sum(tensor.n_bytes for spec in specs for tensor in spec.pool)


@dataclass(frozen=True)
class LayerState:
    """Storage of one layer, by the names of its tensors.

    Attributes:
        pool: for each tensor of shape `(*S, K)` a token, `[n_pages, *S, page_size, K]`.
        state: for each tensor of shape `S` a sequence, `[n_slots + n_rows, *S]`: slots, then rows.
            Both may have a few more, which no sequence is given.
    """

    pool: Mapping[str, Tensor]
    state: Mapping[str, Tensor]

    @cached_property
    def pool_arrays(self) -> dict[str, NDArray[Any]]:
        """The pool as NumPy arrays on the same memory; only on the CPU.

        Bfloat16 is there as its bits, uint16.
        """
        return {name: _array(tensor) for name, tensor in self.pool.items()}

    @cached_property
    def state_arrays(self) -> dict[str, NDArray[Any]]:
        """The state as NumPy arrays on the same memory; only on the CPU."""
        return {name: tensor.numpy() for name, tensor in self.state.items()}


@dataclass(frozen=True)
class SequenceMemory:
    """All that a decoder remembers of one sequence, on its own: what `extend` made of its tokens.

    Attributes:
        counters: `[C]` int64, what the embedding keeps.
        pools: one mapping a layer, by the names of the tensors that are not derived: `[T, K]` for a
            tensor of K numbers a token, heads side by side; uint16 for the bits of bfloat16.
        states: one mapping a layer, by the names of its tensors, of the shapes in its `LayerSpec`.
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
        n_rows: how many states can be kept, each as it was at the end of a page.
        n_counters: int64 counters a sequence, which the embedding keeps (positions).
        device: where the tensors of layers are, as torch names it.
        scratch: see below.
        guard: see `Backend.guard`.
        n_spare: pages and slots beyond these, which no sequence is given.

    Attributes:
        specs: what each layer keeps, as it was given.
        counters: `[n_slots + n_rows, n_counters]` int64: slots, then rows. They are on the CPU.
        layers: storage of each layer.
        spare_page, spare_slot: the first of those that no sequence is given.
        bytes_per_page: memory of one page, in all layers together.
        bytes_per_state: memory of one slot or row, in all layers together, counters included.
        scratch: working memory of the backend that made this, which lasts from step to step.

    Raises:
        ValueError: `page_size` or one of the numbers is out of range.
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
        guard: Callable[[], AbstractContextManager[object]] = nullcontext,
        n_spare: int = 0,
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
        self.spare_page, self.spare_slot = n_pages, n_states
        self.counters = _zeros(n_states, n_counters, dtype="int64", device="cpu")
        self.layers = [
            LayerState(
                {
                    spec.name: torch.empty(
                        n_pages + n_spare, *spec.shape[:-1], page_size, spec.shape[-1],
                        dtype=getattr(torch, spec.dtype), device=device,
                    )
                    for spec in layer.pool
                },
                {
                    spec.name: _zeros(
                        n_states + n_spare, *spec.shape, dtype=spec.dtype, device=device
                    )
                    for spec in layer.state
                },
            )
            for layer in layers
        ]  # fmt: skip
        self.scratch = scratch
        self._guard = guard
        states = [self.counters, *(t for layer in self.layers for t in layer.state.values())]
        pools = [tensor for layer in self.layers for tensor in layer.pool.values()]
        # On the CPU, NumPy copies a row in a tenth of the time that torch takes.
        self._states, self._pools = (
            [_array(one) if one.device.type == "cpu" else one for one in tensors]
            for tensors in (states, pools)
        )

    @cached_property
    def counter_array(self) -> NDArray[np.int64]:
        """The counters as a NumPy array on the same memory."""
        array: NDArray[np.int64] = self.counters.numpy()
        return array

    def row(self, index: int) -> int:
        """Index of a row, counted from 0, in the tensors of states, where rows follow the slots."""
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
        with self._guard():
            for states in self._states:
                states[slot] = 0

    def copy_state(self, source: int, target: int) -> None:
        """Copy a state from a slot to a row, to keep it, or from a row to a slot, to go on from it.

        Args:
            source, target: slots, or rows as `row` gives them.
        """
        with self._guard():
            for states in self._states:
                states[target] = states[source]

    def copy_slots(self, row: int) -> None:
        """Copy the states of all slots, in their order, to the rows from `row` on.

        Args:
            row: as `row` gives it; as many rows follow as there are slots.
        """
        with self._guard():
            for states in self._states:
                slots: Any = states[: self.n_slots]
                states[row : row + self.n_slots] = slots

    def copy_page(self, page: int, copy: int) -> None:
        """Copy what lies in `page`, in all layers, to the page `copy`."""
        with self._guard():
            for pool in self._pools:
                pool[copy] = pool[page]

    def export(self, pages: Sequence[int], n_tokens: int, row: int) -> SequenceMemory:
        """Take a copy of what is remembered of a sequence.

        Args:
            pages: of the sequence, in order.
            n_tokens: how many tokens these pages hold.
            row: where its state is, a slot or a row as `row` gives it.
        """
        return SequenceMemory(
            self.counters[row].numpy().copy(),
            [
                {
                    spec.name: _array(
                        layer.pool[spec.name][list(pages)]
                        .movedim(-2, 1).flatten(0, 1).flatten(1)[:n_tokens].cpu()
                    ).copy()
                    for spec in layer_spec.exported
                }
                for layer_spec, layer in zip(self.specs, self.layers, strict=True)
            ],
            [
                {name: states[row].cpu().numpy().copy() for name, states in layer.state.items()}
                for layer in self.layers
            ],
        )  # fmt: skip

    def load(self, pages: Sequence[int], memory: SequenceMemory, row: int) -> None:
        """Write what `export` gave to other places, here or in the state of another process.

        Args:
            pages: to hold the tokens, in order, exactly as many as they need.
            memory: of the same layers.
            row: to hold the state, a slot or a row as `row` gives it.
        """
        self.counters[row] = torch.from_numpy(memory.counters)
        layers = zip(self.specs, self.layers, memory.pools, memory.states, strict=True)
        for layer_spec, layer, pools, states in layers:
            for name, kept in states.items():
                layer.state[name][row] = torch.from_numpy(kept)
            for spec in layer_spec.pool:
                given = pools[spec.name] if spec.derive is None else spec.derive(_widened(pools))
                rows = np.zeros((len(pages) * self.page_size, given.shape[1]), given.dtype)
                rows[: len(given)] = given
                pool = layer.pool[spec.name]
                shape = pool.shape[1:-2] + pool.shape[-1:]
                split = torch.from_numpy(rows).view(pool.dtype)
                split = split.reshape(len(pages), self.page_size, *shape)
                pool[list(pages)] = split.movedim(1, -2).to(pool.device)


def _array(tensor: Tensor) -> NDArray[Any]:
    """A tensor of the CPU as an array on the same memory; the bits of bfloat16 as uint16."""
    found: NDArray[Any]
    found = tensor.view(torch.uint16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()
    return found


def _widened(pools: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The same numbers, with float32 in place of bfloat16."""
    return {
        name: (array.astype(np.uint32) << 16).view(np.float32)
        if array.dtype == np.uint16
        else array
        for name, array in pools.items()
    }


def _zeros(*shape: int, dtype: str, device: str) -> Tensor:
    """A tensor of zeros; on the CPU, it takes no memory where nothing has been written yet.

    `torch.zeros` would write them all. A server may keep far more states than it ever has to.
    """
    if torch.device(device).type != "cpu":
        return torch.zeros(*shape, dtype=getattr(torch, dtype), device=device)
    # NumPy would ask Linux for pieces of 2 MB, and a step waits for milliseconds for each of them.
    n_bytes = prod(shape) * np.dtype(dtype).itemsize
    memory = mmap.mmap(-1, max(1, n_bytes), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.from_numpy(np.frombuffer(memory, dtype, prod(shape)).reshape(shape))
