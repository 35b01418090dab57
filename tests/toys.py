"""A mixer and a backend that the project does not know; the task is `tests.model.counting`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from torch import Tensor, nn

from causalrn.model.backends.base import Backend, Parts
from causalrn.model.backends.registry import BACKENDS
from causalrn.model.classifier import Classifier
from causalrn.model.draws import RowDraw
from causalrn.model.embedding import Embedding
from causalrn.model.mixers.base import Mixer
from causalrn.model.mixers.registry import MIXERS
from causalrn.model.predictions import Predictions
from causalrn.model.registry import Registry
from causalrn.model.state import DecoderState, LayerSpec, LayerState, RaggedBatch, TensorSpec
from causalrn.model.step import Op, Step
from causalrn.model.tasks.registry import TASKS
from causalrn.model.validation import STRICT
from tests.model.counting import Counting


class MeanParams(BaseModel):
    """`n_rows`: rows of the state, all of which count, to make it as large as a test wants."""

    model_config = STRICT

    n_rows: int = 1


class MeanMixer(Mixer):
    """The mean of all inputs so far, and the input in the middle: state and pool, both needed."""

    Params = MeanParams

    def __init__(self, params: MeanParams, d_model: int, *, norm_eps: float, n_blocks: int) -> None:
        super().__init__()
        self.norm_eps = norm_eps
        self.output = nn.Linear(d_model, d_model, bias=False)
        nn.init.normal_(self.output.weight, std=0.3 / n_blocks)
        self._n_rows = params.n_rows

    @classmethod
    def spec(cls, params: MeanParams, d_model: int) -> LayerSpec:
        return LayerSpec(
            pool=(TensorSpec("inputs", (2, d_model // 2)),),
            state=(TensorSpec("totals", (params.n_rows, d_model), "float64"),),
        )

    def forward(self, x: Tensor, reaches: Tensor, active: Tensor | None) -> Tensor:  # noqa: ARG002
        length = x.shape[1]
        counts = torch.arange(1, length + 1)[:, None]
        mean = (x.double().cumsum(1) / counts).to(x.dtype)
        written: Tensor = self.output(mean + x[:, torch.arange(length) // 2])
        return written

    def extend(self, step: Step, layer: LayerState) -> None:
        batch, size = step.batch, step.state.page_size
        totals, inputs = layer.state_arrays["totals"], layer.pool_arrays["inputs"]
        weight = self.output.weight.detach().numpy()
        for s, slot in enumerate(batch.slots.tolist()):
            place = int(batch.context_lens[s])
            for n in range(int(batch.starts[s]), int(batch.starts[s + 1])):
                x = step.x[n].astype(np.float64)
                x = ((x - x.mean()) / (x.std() + self.norm_eps)).astype(np.float32)
                totals[slot] += x  # every row, so that one that is lost shows in the last
                page = batch.block_tables[s, place // size]
                inputs[page, :, place % size] = x.reshape(2, -1)
                half = place // 2
                seen = inputs[batch.block_tables[s, half // size], :, half % size].reshape(-1)
                mean = (totals[slot].mean(0) / (place + 1)).astype(np.float32)
                place += 1
                if step.active[n]:
                    step.x[n] += weight @ (mean + seen)
                row = batch.state_tables[s, (place - 1) // size]
                if place % size == 0 and row >= 0:
                    totals[row] = totals[slot]


class PlainBackend(Backend):
    """NumPy and torch, token by token, without a single kernel; knows no positions."""

    promise = "a sequence has the same bits in any batch and any chunking"
    ops: ClassVar[Mapping[str, Op]] = {}

    def start(self, report: Callable[[str], object], *, in_a_hurry: bool = False) -> None:
        pass

    def set_threads(self, n: int) -> None:
        pass

    def new_state(
        self,
        specs: Sequence[LayerSpec],
        *,
        d_model: int,  # noqa: ARG002
        n_counters: int,
        **sizes: Any,
    ) -> DecoderState:
        return DecoderState(specs, n_counters=n_counters, **sizes)

    def extend(
        self,
        parts: Parts,
        batch: RaggedBatch,
        state: DecoderState,
        rows: NDArray[np.int64],
        draws: Sequence[RowDraw] = (),  # noqa: ARG002
    ) -> Predictions:
        step = self._embed(parts.embedding, batch, state)
        for block, layer in zip(parts.blocks, state.layers, strict=True):
            assert block.phases is None
            block.extend(step, layer)
        return Predictions.of(self._logits(parts.classifier, step, rows))

    def _embed(self, embedding: Embedding, batch: RaggedBatch, state: DecoderState) -> Step:
        table = embedding.token.weight.detach().numpy()
        counters = state.counters.numpy()
        for s, slot in enumerate(batch.slots.tolist()):
            for place in range(
                int(batch.context_lens[s]) + 1,
                int(batch.context_lens[s] + batch.starts[s + 1] - batch.starts[s]) + 1,
            ):
                counters[slot, 0] += 1
                counters[slot, 2] += 1
                row = batch.state_tables[s, (place - 1) // state.page_size]
                if place % state.page_size == 0 and row >= 0:
                    counters[row] = counters[slot]
        n = len(batch.token_ids)
        everywhere = np.ones(n, np.bool_)
        phases, reaches = np.zeros((2, n), np.int64)
        x = table[batch.token_ids].copy()
        return Step(batch, state, self.ops, x, phases, reaches, everywhere, n, None)

    def _logits(self, classifier: Classifier, step: Step, rows: NDArray[np.int64]) -> Tensor:
        weight = classifier.weight.detach().numpy()
        made = np.empty((len(rows), len(weight)), np.float32)
        for m, row in enumerate(rows):
            x = step.x[row].astype(np.float64)
            x = ((x - x.mean()) / (x.std() + classifier.norm_eps)).astype(np.float32)
            made[m] = weight @ x
        return torch.from_numpy(made)


@contextmanager
def registered(**things: tuple[Registry[Any], Any]) -> Iterator[None]:
    """Make things known by names for the length of a block."""
    with ExitStack() as stack:
        for name, (registry, thing) in things.items():
            registry.register(name, thing)
            stack.callback(registry.unregister, name)
        yield


@contextmanager
def toys() -> Iterator[None]:
    """The mixer `mean`, the task `counting` and the backend `plain`, for the length of a block."""
    with registered(
        mean=(MIXERS, MeanMixer), counting=(TASKS, Counting), plain=(BACKENDS, PlainBackend)
    ):
        yield
