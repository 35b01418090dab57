"""The CPU: compiled kernels, NumPy arrays, the same bits in any batch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.backends.base import Backend
from model.block import Block
from model.classifier import Classifier
from model.embedding import Embedding
from model.ops.cpu import jit
from model.ops.embedding.cpu import embed
from model.ops.logits.cpu import classify
from model.ops.mlp.cpu import mlp
from model.ops.relation.cpu import SEGMENT
from model.ops.relation.cpu_keyed_layer import keyed_relation
from model.ops.relation.cpu_layers import normalized_relation, separable_relation
from model.state import DecoderState, LayerSpec, RaggedBatch
from model.step import Op, Step


class Scratch:
    """Arrays that every step uses again, so that it need not allocate them.

    N is the largest number of new tokens that any step has had so far.

    Attributes:
        x: `[N, D]` float32.
        phases, reaches: `[N]` int64.
        boundless: `[N]` int64, reaches that stop at no border.
        all_active: `[N]` bool, all true.
        n_threads: that the present step may use.
        no_tails: `[n_states, 0, D]` float32, the tails of a mixer without a token shift.
        nothing_found: `[0, 2]` float64, of a mixer that does not tell how well it matched.
    """

    def __init__(self, d_model: int, n_states: int) -> None:
        self._d_model = d_model
        self._n_rows = self._n_segments = 0
        self.n_threads = 1
        self._waves: dict[int, NDArray[np.float32]] = {}
        self.no_tails = np.empty((n_states, 0, d_model), np.float32)
        self.nothing_found = np.empty((0, 2))
        self.make_room(1, 1)

    def make_room(self, n_rows: int, n_segments: int) -> None:
        """Have room for at least this many rows and segments; what was in them may be lost."""
        if n_rows <= self._n_rows and n_segments <= self._n_segments:
            return
        self._n_rows = max(n_rows, self._n_rows)
        self._n_segments = max(n_segments, self._n_segments)
        self.x = np.empty((self._n_rows, self._d_model), np.float32)
        self.phases = np.empty(self._n_rows, np.int64)
        self.reaches = np.empty(self._n_rows, np.int64)
        self.boundless = np.full(self._n_rows, np.iinfo(np.int64).max // 2)
        self.all_active = np.ones(self._n_rows, np.bool_)
        self._rows: dict[tuple[str, int, int], tuple[NDArray[np.float32], ...]] = {}
        self._segments: dict[int, NDArray[np.float32]] = {}

    def rows(self, purpose: str, n: int, width: int) -> tuple[NDArray[np.float32], ...]:
        """`n` arrays of rows, `[N, width]` float32; the same ones whenever all three agree."""
        known = self._rows.get((purpose, n, width))
        if known is None:
            arrays = np.empty((n, self._n_rows, width), np.float32)
            known = self._rows[purpose, n, width] = tuple(arrays)
        return known

    def segments_of(self, n_readers: int, n_tokens: int, width: int) -> NDArray[np.float32]:
        """Rows for so many readers in each segment of so many tokens, `[n, n_readers, width]`."""
        n_segments = -(-self._n_segments * SEGMENT // n_tokens)
        known = self._waves.get(width)
        if known is None or len(known) < n_segments:
            known = self._waves[width] = np.empty((n_segments, n_readers, width), np.float32)
        return known

    def segments(self, width: int) -> NDArray[np.float32]:
        """Rows for each segment of the longest pool, `[n_segments, N, width]` float32."""
        known = self._segments.get(width)
        if known is None:
            shape = self._n_segments, self._n_rows, width
            known = self._segments[width] = np.empty(shape, np.float32)
        return known


@dataclass
class _CpuStep(Step):
    """A step with what `activate` needs besides.

    Attributes:
        all_active: `[N]` bool, all true.
        all_pairs: about how many pairs there are of a new token and one that it sees.
        known: `active` and `n_pairs` for each set of phases that a block has asked for so far.
    """

    all_active: Any
    all_pairs: int
    known: dict[tuple[int, ...], tuple[Any, int]] = field(default_factory=dict)


class CpuBackend(Backend):
    """Computes on the caller's thread and those of Numba."""

    promise = (
        "a sequence's logits have the same bits in any batch, any chunking, any pages and on any "
        "number of threads"
    )
    ops: ClassVar[Mapping[str, Op]] = {
        "embed": embed,
        "keyed_relation": keyed_relation,
        "mlp": mlp,
        "normalized_relation": normalized_relation,
        "separable_relation": separable_relation,
    }

    def start(self, report: Callable[[str], object]) -> None:
        """Start the threads of the kernels; see `Backend.start`.

        A process in which TBB was first used by another thread than the main one never ends.
        """
        jit.num_threads()
        jit.report_compiling(report)

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

    def embed(self, embedding: Embedding, batch: RaggedBatch, state: DecoderState) -> Step:
        """See `Backend.embed`."""
        scratch: Scratch = state.scratch
        counts = batch.starts[1:] - batch.starts[:-1]
        lengths = batch.context_lens + counts
        n_rows, n_pairs = len(batch.token_ids), int(counts @ lengths)
        scratch.make_room(n_rows, -(-int(lengths.max()) // SEGMENT))
        scratch.n_threads = jit.num_threads()
        all_active = scratch.all_active[:n_rows]
        step = _CpuStep(
            batch, state, self.ops, scratch.x[:n_rows], scratch.phases[:n_rows],
            scratch.reaches[:n_rows], all_active, n_pairs, scratch, all_active, n_pairs,
        )  # fmt: skip
        embedding.extend(step)
        return step

    def activate(self, block: Block, step: Any) -> None:
        """See `Backend.activate`."""
        if block.phases is None:
            step.active, step.n_pairs = step.all_active, step.all_pairs
            return
        if block.phases not in step.known:
            active = step.phases == block.phases[0]
            for phase in block.phases[1:]:
                active |= step.phases == phase
            step.known[block.phases] = active, step.all_pairs if active.any() else 0
        step.active, step.n_pairs = step.known[block.phases]

    def logits(self, classifier: Classifier, step: Step, rows: NDArray[np.int64]) -> Tensor:
        """See `Backend.logits`."""
        return torch.from_numpy(classify(classifier, step, rows))
