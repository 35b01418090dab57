"""A GPU: kernels in Triton, torch for memory, the same tokens in any batch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from triton import knobs

from causalrn.model.backends.base import Backend, Parts
from causalrn.model.backends.gpu_steps import DeviceSteps
from causalrn.model.device import DeviceError
from causalrn.model.draws import RowDraw
from causalrn.model.ops.attention.gpu_layers import attention_layer, linear_attention_layer
from causalrn.model.ops.embedding.gpu import embed
from causalrn.model.ops.logits.gpu import classify
from causalrn.model.ops.mlp.gpu import mlp, shifted_mlp
from causalrn.model.ops.relation.gpu_keyed_layer import keyed_layer
from causalrn.model.ops.relation.gpu_layers import normalized_layer, separable_layer
from causalrn.model.predictions import Found, Predictions
from causalrn.model.state import DecoderState, LayerSpec, RaggedBatch, TensorSpec
from causalrn.model.step import Op


class GpuBackend(Backend):
    """Computes on a CUDA device; or, with `TRITON_INTERPRET=1`, slowly on the CPU as if on one."""

    promise = (
        "a sequence's tokens, at temperature 0 or with a seed, are the same in any batch, any "
        "chunking and any pages"
    )
    samples = True
    runs_ahead = True
    ops: ClassVar[Mapping[str, Op]] = {
        "attention": attention_layer,
        "classify": classify,
        "embed": embed,
        "keyed_relation": keyed_layer,
        "linear_attention": linear_attention_layer,
        "mlp": mlp,
        "normalized_relation": normalized_layer,
        "separable_relation": separable_layer,
        "shifted_mlp": shifted_mlp,
    }

    trains_as_on_device = True

    def __init__(self) -> None:
        self.device = torch.device("cpu" if knobs.runtime.interpret else "cuda")

    @contextmanager
    def guard(self) -> Iterator[None]:
        """See `Backend.guard`."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise  # which the next step need not be
        except RuntimeError as error:
            if self._has_failed(error):
                reason = str(error).partition("\n")[0]
                raise DeviceError(f"the GPU failed: {reason}") from error
            raise

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
        """See `Backend.new_state`."""
        return DecoderState(
            [replace(spec, pool=tuple(map(_in_halves, spec.pool))) for spec in specs],
            n_pages=n_pages,
            page_size=page_size,
            n_slots=n_slots,
            n_rows=n_rows,
            n_counters=n_counters,
            device=self.device.type,
            scratch=DeviceSteps(self.device, d_model, self.ops, record),
            guard=self.guard,
            n_spare=1,
        )

    def prepare(self, parts: Parts, state: DecoderState) -> None:
        """See `Backend.prepare`. An interpreter has nothing to prepare, and would take minutes."""
        if self.device.type == "cuda":
            steps: DeviceSteps = state.scratch
            steps.prepare(parts, state)

    def extend(
        self,
        parts: Parts,
        batch: RaggedBatch,
        state: DecoderState,
        rows: NDArray[np.int64],
        draws: Sequence[RowDraw] = (),
    ) -> Predictions:
        """See `Backend.extend`.

        Raises:
            DeviceError: the GPU has failed, and is of no use to this process any more. If that is
                found out later, the predictions raise it.
        """
        parts.embedding.check(batch)
        steps: DeviceSteps = state.scratch
        with self.guard():
            found = steps.run(parts, batch, state, rows, draws)

        def bring() -> Found:
            with self.guard():
                return found.bring()

        return replace(found, bring=bring)

    def _has_failed(self, error: RuntimeError) -> bool:
        """Whether an error is of the device, whose every further use then fails, too."""
        if isinstance(error, torch.AcceleratorError) or self.device.type == "cpu":
            return isinstance(error, torch.AcceleratorError)
        try:
            torch.cuda.synchronize(self.device)
        except RuntimeError:
            return True
        return False


def record(device: torch.device, launch: Callable[[], None]) -> Callable[[], object]:
    """Record kernels as a CUDA graph; interpreted ones are launched again each time.

    Args:
        device: that the kernels are for.
        launch: launches them.

    Returns:
        What has them run again.
    """
    if device.type == "cpu":
        return launch
    graph = torch.cuda.CUDAGraph()
    # Other threads, which belong to other models, go on meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        launch()
    return graph.replay


def _in_halves(spec: TensorSpec) -> TensorSpec:
    """A tensor of the pool as kernels take it: what is derived, as two float32 for each float64."""
    derive = spec.derive
    if derive is None:
        return spec

    def derived(pools: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        whole = derive(pools)
        high = whole.astype(np.float32)
        return np.stack([high, (whole - high).astype(np.float32)], -1).reshape(len(whole), -1)

    shape = *spec.shape[:-1], 2 * spec.shape[-1]
    return replace(spec, shape=shape, dtype="float32", derive=derived)
