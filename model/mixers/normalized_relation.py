"""The paper's mixer: every memory is kept, in a pool that grows by one entry a token."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from model.config import ModelConfig
from model.mixers.base import RelationMixer, tail_shape
from model.ops import extend, jit
from model.ops.relation import normalized_relation
from model.state import DecoderState, LayerSpec, LayerState, RaggedBatch

_PARTS = 4  # of the work on the pools, for each thread


class NormalizedRelation(RelationMixer):
    """`mean over v <= t of exp(norm(a_t + b_v))`: exact retrieval, O(T²), pool of T·R numbers."""

    @staticmethod
    def spec(config: ModelConfig, layer: int) -> LayerSpec:
        """A pool of R numbers a token."""
        return LayerSpec(config.d_relation, config.n_head, 0, tail_shape(config, layer))

    def relate(self, a: Tensor, b: Tensor) -> Tensor:
        """See `RelationMixer.relate`."""
        return normalized_relation(a, b, self.eps)

    def extend(
        self,
        batch: RaggedBatch,
        state: DecoderState,
        layer: LayerState,
        active: NDArray[np.bool_],
        n_pairs: int,
    ) -> None:
        """See `RelationMixer.extend`."""
        space, pool = state.workspace, layer.arrays[0]
        n_rows, width = len(batch.token_ids), self.reader.out_features
        extend.normalized_layer(
            space.x, active, batch.starts, batch.context_lens, batch.slots, batch.block_tables,
            state.n_slots, state.page_size, _PARTS * jit.num_threads(), self.eps,
            *self._taps(), *self._weights(), layer.arrays[2], pool,
            space.z, space.readers, space.memories,
            space.a, space.b, space.o, space.partials, work=width * (n_pairs + n_rows * width // 8),
        )  # fmt: skip
