"""The CPU: compiled kernels, NumPy arrays, the same bits in any batch."""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from causalrn.model.backends.base import Backend, Parts
from causalrn.model.backends.cpu_program import CpuOp, Program
from causalrn.model.backends.cpu_scratch import Scratch
from causalrn.model.draws import RowDraw
from causalrn.model.ops.attention.cpu_layers import (
    attention_layer,
    attention_work,
    linear_attention_layer,
    linear_attention_work,
)
from causalrn.model.ops.attention.cpu_placed_layer import (
    placed_attention_layer,
    placed_attention_work,
)
from causalrn.model.ops.cpu import compiling, jit
from causalrn.model.ops.embedding.cpu import embed, embedding_work
from causalrn.model.ops.logits.cpu import classify, logits_work
from causalrn.model.ops.matrix_state.cpu_layers import matrix_state_layer, matrix_state_work
from causalrn.model.ops.mlp.cpu import mlp, mlp_work, shifted_mlp, shifted_mlp_work
from causalrn.model.ops.pairwise.cpu_layers import pairwise_layer, pairwise_work
from causalrn.model.ops.relation.cpu_keyed_layer import keyed_layer, keyed_work
from causalrn.model.ops.relation.cpu_layers import (
    normalized_layer,
    normalized_work,
    separable_layer,
    separable_work,
)
from causalrn.model.predictions import Predictions
from causalrn.model.state import DecoderState, LayerSpec, RaggedBatch
from causalrn.model.step import Op


class CpuBackend(Backend):
    """Computes on the caller's thread and those of Numba."""

    promise = (
        "a sequence's logits have the same bits in any batch, any chunking, any pages and on any "
        "number of threads"
    )
    ops: ClassVar[Mapping[str, Op]] = {
        "attention": CpuOp(attention_layer, attention_work),
        "classify": CpuOp(classify, logits_work),
        "embed": CpuOp(embed, embedding_work),
        "keyed_relation": CpuOp(keyed_layer, keyed_work),
        "linear_attention": CpuOp(linear_attention_layer, linear_attention_work),
        "matrix_state": CpuOp(matrix_state_layer, matrix_state_work),
        "mlp": CpuOp(mlp, mlp_work),
        "normalized_relation": CpuOp(normalized_layer, normalized_work),
        "pairwise_relation": CpuOp(pairwise_layer, pairwise_work),
        "rotary_or_windowed_attention": CpuOp(placed_attention_layer, placed_attention_work),
        "separable_relation": CpuOp(separable_layer, separable_work),
        "shifted_mlp": CpuOp(shifted_mlp, shifted_mlp_work),
    }

    def start(self, report: Callable[[str], object], *, in_a_hurry: bool = False) -> None:
        """Start the threads of the kernels; see `Backend.start`.

        A process in which TBB was first used by another thread than the main one never ends.
        """
        jit.num_threads()
        jit.report_compiling(report)
        compiling.in_a_hurry = in_a_hurry

    @property
    def is_compiling(self) -> bool:
        """See `Backend.is_compiling`."""
        return compiling.is_compiling()

    def set_threads(self, n: int) -> None:
        """See `Backend.set_threads`."""
        jit.set_num_threads(n)

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
            specs,
            n_pages=n_pages,
            page_size=page_size,
            n_slots=n_slots,
            n_rows=n_rows,
            n_counters=n_counters,
            scratch=Scratch(d_model, n_slots + n_rows),
        )

    def extend(
        self,
        parts: Parts,
        batch: RaggedBatch,
        state: DecoderState,
        rows: NDArray[np.int64],
        draws: Sequence[RowDraw] = (),  # noqa: ARG002
    ) -> Predictions:
        """See `Backend.extend`."""
        parts.embedding.check(batch)
        scratch: Scratch = state.scratch
        program = scratch.program
        if program is None or program.parts is not parts:
            program = scratch.program = Program(parts, self.ops)
        found: Predictions = program.run(batch, state, rows)
        return found
