"""Draws as the kernels of a device take them: a few arrays, which go up as one."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from model.draws import RowDraw


class DeviceDraws:
    """The draws of a step on a device.

    Args:
        draws: at least one.
        device: to hold them.

    Attributes:
        whole: `[D, 6]` int64: the row of the logits, where its changes begin and end, `top_k`, the
            key and the number.
        shares: `[D, 3]` float64: `temperature`, `top_p` and `min_p`.
        ids: `[E]` int64, of the changes of all draws.
        changes: `[E, 3]` float64: what is divided by, what is taken and what is added.
    """

    def __init__(self, draws: Sequence[RowDraw], device: torch.device) -> None:
        changes = [draw.changes for _, draw in draws if draw.changes is not None]
        counts = [0 if draw.changes is None else len(draw.changes.ids) for _, draw in draws]
        ends = np.cumsum(counts)
        whole = np.empty((len(draws), 6), np.int64)
        whole[:, 0] = [row for row, _ in draws]
        whole[:, 1], whole[:, 2] = ends - counts, ends
        whole[:, 3] = [draw.top_k for _, draw in draws]
        whole[:, 4] = np.array([draw.key for _, draw in draws], np.uint64).view(np.int64)
        whole[:, 5] = [draw.number for _, draw in draws]
        shares = np.array([(draw.temperature, draw.top_p, draw.min_p) for _, draw in draws])
        ids = np.concatenate([one.ids for one in changes]) if changes else np.empty(0, np.int64)
        numbers = np.empty((len(ids), 3))
        if changes:
            for column, name in enumerate(("factors", "taken", "added")):
                numbers[:, column] = np.concatenate([getattr(one, name) for one in changes])
        arrays = whole, shares, ids, numbers
        # Each begins at a multiple of 16 bytes: Triton compiles anew for another alignment.
        sizes = [one.size + one.size % 2 for one in arrays]
        together = np.zeros(sum(sizes), np.int64)
        for end, one in zip(np.cumsum(sizes), arrays, strict=True):
            begin = end - one.size - one.size % 2
            together[begin : begin + one.size] = one.reshape(-1).view(np.int64)
        up = torch.from_numpy(together)
        if device.type == "cuda":
            up = up.pin_memory()
        parts = up.to(device, non_blocking=True).split(sizes)
        parts = [part[: one.size] for part, one in zip(parts, arrays, strict=True)]
        self.whole: Tensor = parts[0].view(whole.shape)
        self.shares = parts[1].view(torch.float64).view(shares.shape)
        self.ids = parts[2]
        self.changes = parts[3].view(torch.float64).view(numbers.shape)
