"""The reducible mixer: a prefix sum, O(T), with a state whose size does not grow."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from model.config import ModelConfig
from model.mixers.base import RelationMixer, tail_shape
from model.ops import extend
from model.ops.relation import separable_relation
from model.state import DecoderState, LayerSpec, LayerState, RaggedBatch


class SeparableRelation(RelationMixer):
    """`exp(norm(a_t)) · mean over v <= t of exp(norm(b_v))`: a summary of the context."""

    @staticmethod
    def spec(config: ModelConfig, layer: int) -> LayerSpec:
        """Running sums of R numbers a sequence, no pool."""
        return LayerSpec(0, config.n_head, config.d_relation, tail_shape(config, layer))

    def relate(self, a: Tensor, b: Tensor) -> Tensor:
        """See `RelationMixer.relate`."""
        return separable_relation(a, b, self.eps)

    def extend(
        self,
        batch: RaggedBatch,
        state: DecoderState,
        layer: LayerState,
        active: NDArray[np.bool_],
        n_pairs: int,  # noqa: ARG002
    ) -> None:
        """See `RelationMixer.extend`."""
        space, sums = state.workspace, layer.arrays[1]
        n_rows, width = len(batch.token_ids), self.reader.out_features
        extend.separable_layer(
            space.x, active, batch.starts, batch.context_lens, batch.slots, batch.block_tables,
            state.n_slots, state.page_size, self.n_head, self.eps, *self._taps(), *self._weights(),
            layer.arrays[2], sums, space.z, space.readers, space.memories,
            space.a, space.b, space.o, work=width * (n_rows + n_rows * width // 8),
        )  # fmt: skip
