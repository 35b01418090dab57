"""What goes up for a step: many small arrays, side by side in one buffer."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from causalrn.model.backends.gpu_shape import StepShape
from causalrn.model.draws import RowDraw
from causalrn.model.state import RaggedBatch

_ALIGNMENT = 16  # bytes: Triton compiles anew for another alignment of an array


@dataclass(frozen=True)
class DeviceBatch:
    """The arrays of a batch on a device, all int32.

    Attributes:
        n_rows: new tokens N.
        longest: no sequence has more memories, with this step.
        token_ids, indices, phases, reaches: `[N]`.
        owners, places: `[N]`, of each new token its sequence, and how many came before it there.
        starts, context_lens, slots, block_tables, state_tables: of the batch.
        rows: `[M]`, those whose logits are wanted.
    """

    n_rows: int
    longest: int
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


@dataclass(frozen=True)
class DeviceDraws:
    """The draws of a step on a device.

    Attributes:
        whole: `[D, 6]` int64: the row of the logits, where its changes begin and end, `top_k`, the
            key and the number.
        shares: `[D, 3]` float64: `temperature`, `top_p` and `min_p`.
        changes: `[E, 4]` float64, of all draws: the id, and what its logit is divided by, what is
            taken from it and what is added.
    """

    whole: Tensor
    shares: Tensor
    changes: Tensor


def nobody() -> RaggedBatch:
    """A batch of no sequences."""
    none = np.empty(0, np.int64)
    return RaggedBatch(none, np.zeros(1, np.int64), none, none, np.empty((0, 1), np.int32))


class Inputs:
    """A buffer on the host, the same one on the device, and what lies where in them.

    Args:
        shape: of the step. What a step has less than that is filled up.
        host, device: uint8, `n_bytes` of the shape or more.

    Attributes:
        batch, draws: on the device.
    """

    def __init__(self, shape: StepShape, host: Tensor, device: Tensor) -> None:
        self._host, self._device = host, device
        self._arrays: dict[str, NDArray[Any]] = {}
        found: dict[str, Tensor] = {}
        end, layout = 0, _layout(shape)
        for name, (dtype, sizes) in layout.items():
            begin, end = end, end + _room(dtype, sizes)
            there = slice(begin, begin + dtype.itemsize * prod(sizes))
            self._arrays[name] = host[there].view(dtype).view(sizes).numpy()
            found[name] = device[there].view(dtype).view(sizes)
        self.draws = DeviceDraws(**{name: found.pop(name) for name in DeviceDraws.__annotations__})
        self.batch = DeviceBatch(shape.n_rows, shape.longest, **found)
        self._n_fixed = end - _room(*layout["changes"])

    @staticmethod
    def n_bytes(shape: StepShape) -> int:
        """Bytes of a buffer."""
        return sum(_room(dtype, sizes) for dtype, sizes in _layout(shape).values())

    @classmethod
    def alone(
        cls,
        batch: RaggedBatch,
        device: torch.device,
        *,
        wanted: Sequence[int] = (),
        located: NDArray[np.int64] | None = None,
        draws: Sequence[RowDraw] = (),
    ) -> "Inputs":
        """Those of one step, with nothing else in them.

        Args:
            batch, wanted, located, draws: as for `put`; by default, all tokens stand at 0.
            device: to hold them.
        """
        shape = StepShape.of(batch, len(wanted), draws)
        host = torch.zeros(cls.n_bytes(shape), dtype=torch.uint8)
        found = cls(shape, host, torch.zeros_like(host, device=device))
        if located is None:
            located = np.zeros((3, shape.n_rows), np.int64)
        found.put(batch, np.asarray(wanted, np.int64), located, draws)
        return found

    def put(
        self,
        batch: RaggedBatch,
        wanted: NDArray[np.int64],
        located: NDArray[np.int64],
        draws: Sequence[RowDraw],
        *,
        spare_page: int = 0,
        spare_slot: int = 0,
    ) -> None:
        """Send a step to the device, behind what that has to do before.

        Args:
            batch: on the host.
            wanted: `[M]`, the rows whose logits are wanted.
            located: `[3, N]`, indices, phases and reaches of the new tokens.
            draws: to be made.
            spare_page, spare_slot: of what the step is filled up with.
        """
        arrays, n, n_sequences = self._arrays, len(batch.token_ids), len(batch.slots)
        owners = np.repeat(np.arange(n_sequences), np.diff(batch.starts))
        arrays["token_ids"][:n] = batch.token_ids
        arrays["indices"][:n], arrays["phases"][:n], arrays["reaches"][:n] = located
        arrays["owners"][:n] = owners
        arrays["places"][:n] = batch.context_lens[owners] + np.arange(n) - batch.starts[owners]
        arrays["starts"][: n_sequences + 1] = batch.starts
        for name in ("context_lens", "slots"):
            arrays[name][:n_sequences] = getattr(batch, name)
        for name in ("block_tables", "state_tables"):
            table = getattr(batch, name)
            n_pages = min(table.shape[1], arrays[name].shape[1])
            arrays[name][:n_sequences, :n_pages] = table[:, :n_pages]
        arrays["rows"][: len(wanted)] = wanted
        # Rows that nobody has are the first ones of a sequence that has no rows of its own.
        for name in ("token_ids", "indices", "phases", "reaches", "places"):
            arrays[name][n:] = 0
        arrays["owners"][n:] = n_sequences
        arrays["starts"][n_sequences + 1 :] = n
        arrays["context_lens"][n_sequences:] = 0
        arrays["slots"][n_sequences:] = spare_slot
        arrays["block_tables"][n_sequences:, :1] = spare_page
        arrays["rows"][len(wanted) :] = 0
        n_bytes = self._n_fixed + 32 * self._put_draws(draws)
        self._device[:n_bytes].copy_(self._host[:n_bytes], non_blocking=True)

    def _put_draws(self, draws: Sequence[RowDraw]) -> int:
        """Write the draws to the host's buffer, and return how many changes they have."""
        whole, shares, n = self._arrays["whole"], self._arrays["shares"], len(draws)
        whole[n:], shares[n:] = 0, 0  # at temperature 0 nothing is drawn
        if not n:
            return 0
        changes = [draw.changes for _, draw in draws if draw.changes is not None]
        counts = [0 if draw.changes is None else len(draw.changes.ids) for _, draw in draws]
        ends = np.cumsum(counts)
        whole[:n, 0] = [row for row, _ in draws]
        whole[:n, 1], whole[:n, 2] = ends - counts, ends
        whole[:n, 3] = [draw.top_k for _, draw in draws]
        whole[:n, 4] = np.array([draw.key for _, draw in draws], np.uint64).view(np.int64)
        whole[:n, 5] = [draw.number for _, draw in draws]
        shares[:n] = [(draw.temperature, draw.top_p, draw.min_p) for _, draw in draws]
        n_changes = int(ends[-1])
        if changes:
            for column, name in enumerate(("ids", "factors", "taken", "added")):
                own = np.concatenate([getattr(one, name) for one in changes])
                self._arrays["changes"][:n_changes, column] = own
        return n_changes


def _layout(shape: StepShape) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Of each array its type and its sizes; the changes, which are seldom many, come last."""
    rows, sequences = (shape.n_rows,), (shape.n_sequences,)
    tables = shape.n_sequences, shape.n_pages
    whole = {
        **dict.fromkeys(
            ("token_ids", "indices", "phases", "reaches", "owners", "places"), rows
        ),
        "starts": (shape.n_sequences + 1,),
        "context_lens": sequences, "slots": sequences,
        "block_tables": tables, "state_tables": tables,
        "rows": (shape.n_wanted,),
    }  # fmt: skip
    return {
        **{name: (torch.int32, sizes) for name, sizes in whole.items()},
        "whole": (torch.int64, (shape.n_draws, 6)),
        "shares": (torch.float64, (shape.n_draws, 3)),
        "changes": (torch.float64, (shape.n_changes, 4)),
    }


def _room(dtype: torch.dtype, sizes: tuple[int, ...]) -> int:
    """Bytes of an array, up to where the next one may begin."""
    return -(-dtype.itemsize * prod(sizes) // _ALIGNMENT) * _ALIGNMENT
