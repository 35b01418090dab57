"""The paper's mixer: every memory is kept, in a pool that grows by one entry a token."""

from torch import Tensor

from model.config import ModelConfig
from model.mixers.base import RelationMixer, tail_shape
from model.ops.relation import extend_normalized, normalized_relation
from model.state import LayerSpec, LayerState, RaggedBatch


class NormalizedRelation(RelationMixer):
    """`mean over v <= t of exp(norm(a_t + b_v))`: exact retrieval, O(T²), pool of T·R numbers."""

    @staticmethod
    def spec(config: ModelConfig) -> LayerSpec:
        """A pool of R numbers a token."""
        return LayerSpec(config.d_relation, config.n_head, 0, tail_shape(config))

    def relate(self, a: Tensor, b: Tensor) -> Tensor:
        """See `RelationMixer.relate`."""
        return normalized_relation(a, b, self.eps)

    def extend_relation(
        self, a: Tensor, b: Tensor, batch: RaggedBatch, state: LayerState
    ) -> Tensor:
        """See `RelationMixer.extend_relation`."""
        return extend_normalized(a, b, self.eps, batch, state.pool)
