"""A GPU: kernels in Triton, torch for memory, the same tokens in any batch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from triton import knobs

from model.backends.base import Backend, Parts
from model.backends.gpu_batch import DeviceBatch
from model.ops.embedding.gpu import embed
from model.ops.logits.gpu import classify
from model.ops.mlp.gpu import mlp
from model.ops.positions.cpu import locate_alone
from model.ops.relation.gpu_layers import normalized_layer, separable_layer
from model.predictions import Predictions
from model.state import DecoderState, LayerSpec, RaggedBatch
from model.step import Op, Step

_EVERY_PHASE = -1


class GpuBackend(Backend):
    """Computes on a CUDA device; or, with `TRITON_INTERPRET=1`, slowly on the CPU as if on one.

    It has no operation for keyed relations yet, and no server asks for it.
    """

    promise = (
        "a sequence's tokens at temperature 0 are the same in any batch, any chunking and any pages"
    )
    ops: ClassVar[Mapping[str, Op]] = {
        "classify": classify,
        "embed": embed,
        "mlp": mlp,
        "normalized_relation": normalized_layer,
        "separable_relation": separable_layer,
    }

    def __init__(self) -> None:
        self.device = torch.device("cpu" if knobs.runtime.interpret else "cuda")

    def start(self, report: Callable[[str], object], *, in_a_hurry: bool = False) -> None:
        """See `Backend.start`."""

    def set_threads(self, n: int) -> None:
        """See `Backend.set_threads`: the host's threads, which have little to do here."""
        torch.set_num_threads(n)

    def new_state(
        self,
        specs: Sequence[LayerSpec],
        *,
        d_model: int,
        n_counters: int,
        n_pages: int,
        page_size: int,
        n_slots: int,
        n_rows: int,
    ) -> DecoderState:
        """See `Backend.new_state`.

        Raises:
            ValueError: a pool is to be bfloat16.
        """
        if any(one.dtype == "bfloat16" for spec in specs for one in spec.pool):
            raise ValueError("this backend keeps memories in float32, not in bfloat16")
        return DecoderState(
            [replace(spec, pool=spec.exported) for spec in specs],
            n_pages=n_pages,
            page_size=page_size,
            n_slots=n_slots,
            n_rows=n_rows,
            n_counters=n_counters,
            device=self.device.type,
            scratch=DeviceScratch(self.device, d_model),
        )

    def extend(
        self, parts: Parts, batch: RaggedBatch, state: DecoderState, rows: NDArray[np.int64]
    ) -> Predictions:
        """See `Backend.extend`."""
        parts.embedding.check(batch)
        device: DeviceScratch = state.scratch
        step = device.begin(parts, batch, state, rows, self.ops)
        step.op(parts.embedding.op)(parts.embedding, step, None)
        for block, layer in zip(parts.blocks, state.layers, strict=True):
            phases = block.phases
            device.mask = (
                _EVERY_PHASE
                if phases is None
                else sum(1 << phase for phase in phases if phase >= 0)
            )
            block.extend(step, layer)
        step.op(parts.classifier.op)(parts.classifier, step, None)
        return Predictions(device.logits.cpu(), device.likeliest.cpu().numpy())


class DeviceScratch:
    """What the steps of one decoder work on, on its device.

    Attributes:
        batch: of the step.
        mask: of the phases of the rows that the present block writes to; negative for all.
        logits, likeliest: what the step predicts.
    """

    def __init__(self, device: torch.device, d_model: int) -> None:
        self._device, self._d_model = device, d_model
        self._rows: dict[tuple[str, int, int], Tensor] = {}
        self._n_rows = 0
        self.mask = _EVERY_PHASE
        self.batch: DeviceBatch
        self.logits: Tensor
        self.likeliest: Tensor

    def begin(
        self,
        parts: Parts,
        batch: RaggedBatch,
        state: DecoderState,
        rows: NDArray[np.int64],
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
        if n > self._n_rows:
            self._n_rows, self._rows = n, {}
        (x,) = self.rows("residual", 1, self._d_model)
        size = len(rows), parts.classifier.out_features
        self.logits = torch.empty(size, device=self._device)
        self.likeliest = torch.empty(len(rows), dtype=torch.int64, device=self._device)
        return Step(batch, state, ops, x, None, None, None, n, self)

    def rows(self, purpose: str, n: int, width: int) -> tuple[Tensor, ...]:
        """`n` arrays of rows, `[N, width]` float32; the same ones whenever all three agree."""
        known = self._rows.get((purpose, n, width))
        if known is None:
            known = torch.empty(n, self._n_rows, width, device=self._device)
            self._rows[purpose, n, width] = known
        return known.unbind()

    def segments(self, n_segments: int, width: int) -> Tensor:
        """`[n_segments, N, width]` float32."""
        return torch.empty(n_segments, self.batch.n_rows, width, device=self._device)
