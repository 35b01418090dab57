"""The mixer that is a prefix sum: O(T), with a state that does not grow with the sequence."""

from torch import Tensor

from causalrn.model.mixers.relation import RelationMixer, RelationParams, tail_spec
from causalrn.model.ops.relation import separable_relation
from causalrn.model.state import LayerSpec, TensorSpec


class SeparableRelation(RelationMixer):
    """`exp(norm(a_t)) · mean over v <= t of exp(norm(b_v))`: a summary of the context."""

    @classmethod
    def spec(cls, params: RelationParams, d_model: int) -> LayerSpec:
        """Running sums of R numbers a sequence, no pool."""
        sums = TensorSpec("sums", (params.d_relation,), "float64")
        return LayerSpec(state=(sums, *tail_spec(params, d_model)))

    def relate(self, a: Tensor, b: Tensor) -> Tensor:
        """See `RelationMixer.relate`."""
        return separable_relation(a, b, self.norm_eps)

    @property
    def op(self) -> str:
        """See `Mixer.op`."""
        return "separable_relation"
