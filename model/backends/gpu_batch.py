"""A batch as the kernels of a device take it: many small arrays, which go up as one."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.state import RaggedBatch


class DeviceBatch:
    """The arrays of a step on a device, all int32.

    Args:
        batch: on the host.
        wanted: `[M]`, the rows whose logits are wanted.
        indices, phases, reaches: `[N]`, where the new tokens stand.
        device: to hold them.

    Attributes:
        n_rows: new tokens N.
        longest: memories that the longest sequence has with this step.
        token_ids, indices, phases, reaches: `[N]`.
        owners, places: `[N]`, of each new token its sequence, and how many came before it there.
        starts, context_lens, slots, block_tables, state_tables: of the batch.
        rows: `[M]`.
    """

    token_ids: Tensor
    indices: Tensor
    phases: Tensor
    reaches: Tensor
    owners: Tensor
    places: Tensor
    starts: Tensor
    context_lens: Tensor
    slots: Tensor
    block_tables: Tensor
    state_tables: Tensor
    rows: Tensor

    def __init__(
        self,
        batch: RaggedBatch,
        wanted: NDArray[np.int64],
        indices: NDArray[np.int64],
        phases: NDArray[np.int64],
        reaches: NDArray[np.int64],
        device: torch.device,
    ) -> None:
        counts = np.diff(batch.starts)
        self.n_rows = len(batch.token_ids)
        self.longest = int((batch.context_lens + counts).max())
        owners = np.repeat(np.arange(len(counts)), counts)
        numbers = np.arange(self.n_rows) - batch.starts[owners]
        arrays = {
            "token_ids": batch.token_ids,
            "indices": indices,
            "phases": phases,
            "reaches": reaches,
            "owners": owners,
            "places": batch.context_lens[owners] + numbers,
            "starts": batch.starts,
            "context_lens": batch.context_lens,
            "slots": batch.slots,
            "block_tables": batch.block_tables,
            "state_tables": batch.state_tables,
            "rows": wanted,
        }
        # Each begins at a multiple of 16 bytes: Triton compiles anew for another alignment.
        ends = np.cumsum([-(-array.size // 4) * 4 for array in arrays.values()])
        together = np.zeros(ends[-1], np.int32)
        begins = [0, *ends[:-1]]
        for begin, array in zip(begins, arrays.values(), strict=True):
            together[begin : begin + array.size] = array.reshape(-1)
        up = torch.from_numpy(together)
        if device.type == "cuda":
            up = up.pin_memory()
        up = up.to(device, non_blocking=True)
        for begin, (name, array) in zip(begins, arrays.items(), strict=True):
            setattr(self, name, up[begin : begin + array.size].view(array.shape))
