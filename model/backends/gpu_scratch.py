"""Working memory of a device's steps."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from causalrn.model.backends.base import Parts
from causalrn.model.backends.gpu_inputs import DeviceBatch, Inputs
from causalrn.model.backends.gpu_shape import StepShape
from causalrn.model.draws import RowDraw
from causalrn.model.ops.positions import EVERY_PHASE
from causalrn.model.ops.positions.cpu import locate_alone
from causalrn.model.predictions import Found
from causalrn.model.state import DecoderState, RaggedBatch


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
        found: int64, in one array what comes back from the step, which the next one may read.
        likeliest, chosen: `[M]` and `[D]`, parts of it.
        n_moves: how often what lasts on the device has got another place, or was made anew.
    """

    inputs: Inputs
    batch: DeviceBatch
    logits: Tensor
    found: Tensor
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
        self._n_brought = 0

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
        before: Tensor | None = None,
        lasts: bool = False,
    ) -> None:
        """Send a step to the device, and make room for what it predicts.

        Args:
            shape: that the step is filled up to.
            parts: that it goes through.
            batch, rows, draws: see `Backend.extend`.
            state: of the sequences, whose counters advance.
            before: `found` of the step before, if some token ids stand for places in it.
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
        first_draw = place_of_draws(shape.n_wanted)
        n, n_before = first_draw + shape.n_draws, 0 if before is None else len(before)
        found = self.room("found", max(n, n_before), dtype=torch.int64)
        if before is not None and before.data_ptr() != found.data_ptr():
            found[:n_before].copy_(before)
        self.found = found[:n]
        self.likeliest, self.chosen = self.found[: shape.n_wanted], self.found[first_draw:]

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

    def bring(self, n_rows: int, n_draws: int) -> Callable[[], Found]:
        """Have `likeliest` and `chosen` brought back behind the step.

        Args:
            n_rows, n_draws: how many of them are not there only to fill the step up.

        Returns:
            What waits for them, and gives them; to be called before the step after the next one.
        """
        # In turns, as the next step may be under way before this one is waited for.
        self._n_brought += 1
        purpose, n = f"brought {self._n_brought % 2}", len(self.found)
        brought = self.room(purpose, n, dtype=torch.int64, on_host=True)
        brought.copy_(self.found, non_blocking=True)
        done: torch.cuda.Event | None = None
        if self.device.type == "cuda":
            done = torch.cuda.Event()
            done.record()
        first_draw = n - len(self.chosen)

        def wait() -> Found:
            if done is not None:
                done.synchronize()
            array: NDArray[np.int64] = brought.numpy().copy()
            return array[:n_rows], array[first_draw : first_draw + n_draws]

        return wait

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


def place_of_draws(n_rows: int) -> int:
    """Where in `found` the draws begin, behind so many rows: at a multiple of 16 bytes."""
    return n_rows + n_rows % 2


def _versions(weights: Sequence[Tensor]) -> list[tuple[int, int]]:
    return [(weight.data_ptr(), weight._version) for weight in weights]
