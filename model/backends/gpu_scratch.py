"""Working memory of a device's steps."""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.backends.base import Parts
from model.backends.gpu_batch import DeviceBatch
from model.ops.positions import EVERY_PHASE
from model.ops.positions.cpu import locate_alone
from model.state import DecoderState, RaggedBatch
from model.step import Op, Step


class DeviceScratch:
    """What the steps of one decoder work on, on its device.

    Attributes:
        batch: of the step.
        mask: of the phases of the rows that the present block writes to; negative for all.
        logits, likeliest, chosen: what the step predicts; no other step writes there.
        found: `likeliest` and `chosen` in one.
    """

    def __init__(self, device: torch.device, d_model: int) -> None:
        self._device, self._d_model = device, d_model
        self._rooms: dict[str, Tensor] = {}
        self._kept: dict[Any, tuple[Any, Any]] = {}
        self.mask = EVERY_PHASE
        self.batch: DeviceBatch
        self.logits: Tensor
        self.found: Tensor
        self.likeliest: Tensor
        self.chosen: Tensor

    def begin(
        self,
        parts: Parts,
        batch: RaggedBatch,
        state: DecoderState,
        rows: NDArray[np.int64],
        n_draws: int,
        ops: Mapping[str, Op],
    ) -> Step:
        """Put a batch on the device, and have room for its rows."""
        config = parts.embedding.config
        n = len(batch.token_ids)
        indices, phases, reaches = np.empty((3, n), np.int64)
        locate_alone(
            batch.token_ids, batch.starts, batch.context_lens, batch.slots, batch.state_tables,
            state.page_size, config.bos_id, config.sep_id, config.positions == "coupled",
            config.recall, state.counter_array, indices, phases, reaches,
        )  # fmt: skip
        self.batch = DeviceBatch(batch, rows, indices, phases, reaches, self._device)
        shape = len(rows), parts.classifier.out_features
        self.logits = torch.empty(shape, device=self._device)
        # The second half, too, begins at a multiple of 16 bytes; see `DeviceBatch`.
        n_rows = len(rows) + len(rows) % 2
        self.found = torch.empty(n_rows + n_draws, dtype=torch.int64, device=self._device)
        self.likeliest, self.chosen = self.found[: len(rows)], self.found[n_rows:]
        x = self.room("residual", n, self._d_model)
        return Step(batch, state, ops, x, None, None, None, n, self)

    def room(self, purpose: str, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """An array with anything in it; of one purpose, all share their memory."""
        size = prod(shape)
        room = self._rooms.get(purpose)
        if room is None or len(room) < size:
            # Half as much again, so that a batch that grows by a row at a time seldom moves it.
            room = torch.empty(size * 3 // 2, dtype=dtype, device=self._device)
            self._rooms[purpose] = room
        return room[:size].view(shape)

    def kept(self, owner: nn.Module, weights: Sequence[Tensor], make: Callable[[], Any]) -> Any:
        """What was made of some weights of a module, made anew if they have changed."""
        now = [(weight.data_ptr(), weight._version) for weight in weights]
        known, made = self._kept.get(owner, (None, None))
        if known != now:
            made = make()
            self._kept[owner] = now, made
        return made
