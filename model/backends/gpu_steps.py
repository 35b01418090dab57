"""The steps of one decoder on a device: kernels launched one by one, or recorded and played."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from causalrn.model.backends.base import Parts
from causalrn.model.backends.gpu_inputs import nobody
from causalrn.model.backends.gpu_scratch import DeviceScratch, place_of_draws
from causalrn.model.backends.gpu_shape import Buckets, StepShape
from causalrn.model.draws import RowDraw
from causalrn.model.mixers.base import Mixer
from causalrn.model.ops.logits.gpu_sampling import make_draws
from causalrn.model.predictions import Predictions
from causalrn.model.state import DecoderState, RaggedBatch
from causalrn.model.step import Op, Step

logger = logging.getLogger(__name__)


class _Before(NamedTuple):
    """What the step before has left on the device.

    Attributes:
        found: see `DeviceScratch`.
        n_rows: whose `likeliest` are its first ones, without what filled the step up.
        first_draw: where in it `chosen` begins.
    """

    found: Tensor
    n_rows: int
    first_draw: int


Recorder = Callable[[torch.device, Callable[[], None]], Callable[[], object]]
"""Records what a function has a device do, without doing it; what it returns has it done again."""


class DeviceSteps:
    """Makes steps, and keeps the records of those that come again and again.

    A step that fits into a bucket works on memory of its own kind, which seldom moves, so a record
    of it stays good. The first step of a bucket is launched, and then recorded. Where recording
    fails, or a mixer has its own `extend`, of which no record could tell, all steps are launched.

    Args:
        device: that computes.
        d_model: channels of the residual stream.
        ops: by the names under which the parts of a decoder ask for them.
        record: how steps are recorded.
    """

    def __init__(
        self, device: torch.device, d_model: int, ops: Mapping[str, Op], record: Recorder
    ) -> None:
        self._d_model, self._ops, self._record = d_model, ops, record
        self._launched, self._recorded = DeviceScratch(device), DeviceScratch(device)
        self._graphs: dict[StepShape, Callable[[], object]] = {}
        self._of: tuple[object, ...] = ()  # what the graphs are of
        self._before: _Before
        self.records = True

    @property
    def n_graphs(self) -> int:
        """Buckets of which there is a record."""
        return len(self._graphs)

    @property
    def n_bytes(self) -> int:
        """Memory on the device that all steps work on."""
        return self._launched.n_bytes + self._recorded.n_bytes

    def run(
        self,
        parts: Parts,
        batch: RaggedBatch,
        state: DecoderState,
        rows: NDArray[np.int64],
        draws: Sequence[RowDraw],
    ) -> Predictions:
        """Make a step; see `Backend.extend`.

        It is not waited for, but by those who look at what was found.
        """
        shape, before = StepShape.of(batch, len(rows), draws), None
        if batch.token_ids.min(initial=0) < 0:
            batch, before = self._placed(batch), self._before.found
        bucket = None
        if self.records and _consists_of_ops(parts):
            bucket = self._buckets(parts, state).find(shape)
        if bucket is None:
            scratch = self._launched
            scratch.put(shape, parts, batch, state, rows, draws, before=before)
            self._launch(parts, batch, state, scratch)
        else:
            scratch = self._recorded
            scratch.put(bucket, parts, batch, state, rows, draws, before=before, lasts=True)
            self._play(bucket, parts, batch, state)
        first_draw = place_of_draws(len(scratch.likeliest))
        self._before = _Before(scratch.found, len(rows), first_draw)
        if not len(rows):
            nothing = np.empty(0, np.int64)
            return Predictions(scratch.logits[:0], lambda: (nothing, nothing))
        bring = scratch.bring(len(rows), len(draws))
        return Predictions(scratch.logits[: len(rows)], bring, is_lent=True)

    def prepare(self, parts: Parts, state: DecoderState) -> None:
        """Have every kernel compiled, and every bucket recorded, with steps of nobody's tokens."""
        for bucket in self._buckets(parts, state).all():
            if self.records and _consists_of_ops(parts):
                self.prepare_one(bucket, parts, state)

    def prepare_one(self, bucket: StepShape, parts: Parts, state: DecoderState) -> None:
        """Have a bucket recorded, with a step of nobody's tokens."""
        empty = nobody()
        self._recorded.put(bucket, parts, empty, state, empty.slots, (), lasts=True)
        self._play(bucket, parts, empty, state)

    def _placed(self, batch: RaggedBatch) -> RaggedBatch:
        """The same, with `~k` for place k in what the step before has left on the device."""
        ids, before = batch.token_ids, self._before
        shift = np.where(~ids < before.n_rows, 0, before.first_draw - before.n_rows)
        return replace(batch, token_ids=np.where(ids < 0, ids - shift, ids))

    def _play(
        self, bucket: StepShape, parts: Parts, batch: RaggedBatch, state: DecoderState
    ) -> None:
        """Make a step whose inputs are there, from a record if there is a good one."""
        scratch = self._recorded

        def launch() -> None:
            self._launch(parts, batch, state, scratch)

        self._forget_if_stale(parts)
        graph = self._graphs.get(bucket)
        if graph is not None:
            graph()
            return
        launch()
        self._forget_if_stale(parts)
        try:
            self._graphs[bucket] = self._record(scratch.device, launch)
        except RuntimeError as error:
            self.records = False
            self._graphs.clear()
            reason = str(error).partition("\n")[0]
            logger.warning("steps cannot be recorded, so all are launched: %s", reason)

    def _forget_if_stale(self, parts: Parts) -> None:
        """Give up all records if what they work on is somewhere else by now, or another."""
        scratch = self._recorded
        masks = tuple(block.mask for block in parts.blocks)
        of = (parts, masks, scratch.n_moves)
        if of != self._of or scratch.is_stale:
            self._graphs.clear()
            self._of = of

    @staticmethod
    def _buckets(parts: Parts, state: DecoderState) -> Buckets:
        n_held = state.n_pages * state.page_size
        longest = min(parts.embedding.config.max_seq_len, n_held)
        return Buckets.for_slots(state.n_slots, longest, state.page_size)

    def _launch(
        self, parts: Parts, batch: RaggedBatch, state: DecoderState, scratch: DeviceScratch
    ) -> None:
        n = scratch.batch.n_rows
        x = scratch.room("residual", n, self._d_model)
        step = Step(batch, state, self._ops, x, None, None, None, n, scratch)
        step.op(parts.embedding.op)(parts.embedding, step, None)
        for block, layer in zip(parts.blocks, state.layers, strict=True):
            scratch.mask = block.mask
            block.extend(step, layer)
        step.op(parts.classifier.op)(parts.classifier, step, None)
        draws = scratch.inputs.draws
        if len(draws.whole):
            make_draws(scratch.logits, scratch.likeliest, draws, scratch.chosen)


def _consists_of_ops(parts: Parts) -> bool:
    """Whether every block leaves its mixer to an operation of the backend."""
    return all(type(block.mixer).extend is Mixer.extend for block in parts.blocks)
