"""Working memory of a device's steps."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.backends.base import Parts
from model.backends.gpu_inputs import DeviceBatch, Inputs
from model.backends.gpu_shape import StepShape
from model.draws import RowDraw
from model.ops.positions import EVERY_PHASE
from model.ops.positions.cpu import locate_alone
from model.state import DecoderState, RaggedBatch


class DeviceScratch:
    """What steps work on, on their device. It lasts, and later steps write over it.

    Args:
        device: where it is.

    Attributes:
        device: as given.
        inputs: of the step.
        batch: of these inputs.
        mask: of the phases of the rows that the present block writes to; negative for all.
        logits: `[M, V]` float32, what the step predicts.
        likeliest, chosen: `[M]` and `[D]` int64, both in one array.
        n_moves: how often what lasts on the device has got another place, or was made anew.
    """

    inputs: Inputs
    batch: DeviceBatch
    logits: Tensor
    likeliest: Tensor
    chosen: Tensor

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.mask = EVERY_PHASE
        self.n_moves = 0
        self._rooms: dict[str, Tensor] = {}
        self._on_host: dict[str, Tensor] = {}
        self._kept: dict[nn.Module, tuple[Sequence[Tensor], list[tuple[int, int]], Any]] = {}
        self._known: dict[StepShape, Inputs] = {}
        self._sent: torch.cuda.Event | None = None
        self._found: Tensor

    @property
    def n_bytes(self) -> int:
        """Memory on the device."""
        return sum(room.nbytes for room in self._rooms.values())

    def put(
        self,
        shape: StepShape,
        parts: Parts,
        batch: RaggedBatch,
        state: DecoderState,
        rows: NDArray[np.int64],
        draws: Sequence[RowDraw],
        *,
        lasts: bool = False,
    ) -> None:
        """Send a step to the device, and make room for what it predicts.

        Args:
            shape: that the step is filled up to.
            parts: that it goes through.
            batch, rows, draws: see `Backend.extend`.
            state: of the sequences, whose counters advance.
            lasts: whether there will be many steps of this shape.
        """
        config = parts.embedding.config
        located = np.empty((3, len(batch.token_ids)), np.int64)
        locate_alone(
            batch.token_ids, batch.starts, batch.context_lens, batch.slots, batch.state_tables,
            state.page_size, config.bos_id, config.sep_id, config.positions == "coupled",
            config.recall, state.counter_array, *located,
        )  # fmt: skip
        inputs = self._inputs_of(shape, lasts=lasts)
        if self._sent is not None:
            self._sent.synchronize()  # the buffer on the host is free again
        inputs.put(
            batch, rows, located, draws, spare_page=state.spare_page, spare_slot=state.spare_slot
        )
        if self.device.type == "cuda":
            self._sent = torch.cuda.Event()
            self._sent.record()
        self.inputs, self.batch = inputs, inputs.batch
        self.logits = self.room("logits", shape.n_wanted, parts.classifier.out_features)
        # The second half, too, begins at a multiple of 16 bytes, as all inputs do.
        even = shape.n_wanted + shape.n_wanted % 2
        self._found = self.room("found", even + shape.n_draws, dtype=torch.int64)
        self.likeliest, self.chosen = self._found[: shape.n_wanted], self._found[even:]

    def _inputs_of(self, shape: StepShape, *, lasts: bool) -> Inputs:
        found = self._known.get(shape)
        if found is None:
            n_bytes, places = Inputs.n_bytes(shape), self._places
            host = self.room("uploads", n_bytes, dtype=torch.uint8, on_host=True)
            found = Inputs(shape, host, self.room("uploaded", n_bytes, dtype=torch.uint8))
            if self._places != places:
                self._known.clear()
            if lasts:
                self._known[shape] = found
        return found

    @property
    def _places(self) -> list[int]:
        rooms = self._on_host.get("uploads"), self._rooms.get("uploaded")
        return [0 if room is None else room.data_ptr() for room in rooms]

    def bring(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Wait for the step, and bring back `likeliest` and `chosen`."""
        n_rows, n = len(self.likeliest), len(self._found)
        found = self.room("brought", n, dtype=torch.int64, on_host=True)
        found.copy_(self._found, non_blocking=True)
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()
        array: NDArray[np.int64] = found.numpy().copy()
        return array[:n_rows], array[n_rows + n_rows % 2 :]

    def room(
        self,
        purpose: str,
        *shape: int,
        dtype: torch.dtype = torch.float32,
        on_host: bool = False,
    ) -> Tensor:
        """An array with anything in it; of one purpose, all share their memory.

        Args:
            purpose: says what for; all arrays of a purpose have one type.
            shape: of the array.
            dtype: its type.
            on_host: whether it is where the host writes and reads, pinned if there is a GPU.
        """
        size = prod(shape)
        rooms = self._on_host if on_host else self._rooms
        room = rooms.get(purpose)
        if room is None or len(room) < size:
            # Half as much again, so that a batch that grows by a row at a time seldom moves it.
            n = size * 3 // 2
            if on_host:
                room = torch.empty(n, dtype=dtype, pin_memory=self.device.type == "cuda")
            else:
                room = torch.empty(n, dtype=dtype, device=self.device)
            rooms[purpose] = room
            self.n_moves += not on_host
        return room[:size].view(shape)

    def kept(self, owner: nn.Module, weights: Sequence[Tensor], make: Callable[[], Any]) -> Any:
        """What was made of some weights of a module, made anew if they have changed."""
        known = self._kept.get(owner)
        if known is None or known[1] != _versions(weights):
            known = weights, _versions(weights), make()
            self._kept[owner] = known
            self.n_moves += 1
        return known[2]

    @property
    def is_stale(self) -> bool:
        """Whether some of what is kept has to be made anew."""
        return any(seen != _versions(weights) for weights, seen, _ in self._kept.values())


def _versions(weights: Sequence[Tensor]) -> list[tuple[int, int]]:
    return [(weight.data_ptr(), weight._version) for weight in weights]
