"""The reducible mixer: a prefix sum, O(T), with a state whose size does not grow."""

from torch import Tensor

from model.config import ModelConfig
from model.mixers.base import RelationMixer, tail_shape
from model.ops.relation import extend_separable, separable_relation
from model.state import LayerSpec, LayerState, RaggedBatch


class SeparableRelation(RelationMixer):
    """`exp(norm(a_t)) · mean over v <= t of exp(norm(b_v))`: a summary of the context."""

    @staticmethod
    def spec(config: ModelConfig) -> LayerSpec:
        """Running sums of R numbers a sequence, no pool."""
        return LayerSpec(0, config.n_head, config.d_relation, tail_shape(config))

    def relate(self, a: Tensor, b: Tensor) -> Tensor:
        """See `RelationMixer.relate`."""
        return separable_relation(a, b, self.eps)

    def extend_relation(
        self, a: Tensor, b: Tensor, batch: RaggedBatch, state: LayerState
    ) -> Tensor:
        """See `RelationMixer.extend_relation`."""
        return extend_separable(a, b, self.eps, batch, state.sums)
