"""The paper's mixer: it keeps every memory, in a pool that grows by one entry a token."""

import torch
from torch import Tensor, nn

from model.mixers.relation import RelationMixer, RelationParams, tail_spec
from model.ops.norm import norm
from model.ops.relation import normalized_relation
from model.state import LayerSpec, LayerState, TensorSpec
from model.step import Step

# Ten times the other weights: a difference of place outweighs what tokens add to a pair.
_MATCH_STD = 0.2
_CONTENT_STD = 0.1
_OLDER = 0.8  # weight of a token in a match of contents, against that of the one after it
_WRITE = 0.3  # what a match adds to the residual stream, in the unit of normalized channels
_SPIKE = 8.0  # what a memory's own token adds to its channel, in the unit of the other weights


class NormalizedRelation(RelationMixer):
    """`mean over v <= t of exp(norm(a_t + b_v))`: exact retrieval, O(T²), pool of T·R numbers."""

    @classmethod
    def spec(cls, params: RelationParams, d_model: int) -> LayerSpec:
        """A pool of R numbers a token."""
        memories = TensorSpec("pool", (params.n_head, params.d_head))
        return LayerSpec(pool=(memories,), state=tail_spec(params, d_model))

    def relate(self, a: Tensor, b: Tensor) -> Tensor:
        """See `RelationMixer.relate`."""
        return normalized_relation(a, b, self.norm_eps)

    def extend(self, step: Step, layer: LayerState) -> None:
        """See `Mixer.extend`."""
        step.op("normalized_relation")(self, step, layer)

    def match_places(self, d_position: int) -> None:
        """Start with readers that look for the memory of their own place.

        The weights that read the codes of places are drawn once and used with opposite signs: where
        places match, they cancel. A memory is given the place of its predecessor, so that with
        coupled positions the reader at an output token finds the source of the next one.

        Args:
            d_position: channels, the last ones of the input, that hold the codes of places.

        Raises:
            ValueError: the mixer has no token shift, which is what sees the predecessor.
        """
        if self.shift is None:
            raise ValueError("places can be matched only behind a token shift")
        with torch.no_grad():
            match = torch.randn(self.reader.out_features, d_position) * _MATCH_STD
            self.reader.weight[:, -d_position:] = match
            self.memory.weight[:, -d_position:] = -match
            self.shift.weight[1, :2, -d_position:] = torch.tensor([[0.0], [1.0]])

    def match_content(self, tokens: Tensor, classes: Tensor) -> None:
        """Start with readers that look for the memory whose predecessors equal the last tokens.

        A third of the channels of tokens tells what stood before: each tap of the shift turns their
        signs in its own random way, older ones count less, and reader and memory weigh the sum with
        opposite signs, the memory one token behind. Where the tokens match, they cancel. The other
        channels tell what the memory itself holds, as one channel of the relation that stands out:
        only then does a match outweigh the many pairs that do not match. The output makes that
        token likelier. Tokens whose ids are R or more have no such channel.

        Args:
            tokens: `[V, C]`, the vectors of tokens, which fill the first C channels of the input.
            classes: `[V, D]`, the weights of their logits.

        Raises:
            ValueError: the mixer has no token shift, which is what sees predecessors.
        """
        if self.shift is None:
            raise ValueError("content can be matched only behind a token shift")
        width, d_token = self.shift.weight.shape[1], tokens.shape[1]
        n_key, r = d_token // 3, self.reader.out_features
        with torch.no_grad():
            signs = torch.randint(2, (width - 1, n_key)) * 2.0 - 1.0
            signs *= _OLDER ** torch.arange(width - 1.0)[:, None]
            self.shift.weight[:, :, :d_token] = 0.0
            self.shift.weight[0, :-1, :n_key] = signs
            self.shift.weight[1, 1:, :n_key] = signs
            self.shift.weight[1, 0, n_key:d_token] = 1.0
            match = torch.randn(r, n_key) * _CONTENT_STD
            self.reader.weight[:, :n_key] = match
            self.memory.weight[:, :n_key] = -match
            values = norm(tokens[:r, n_key:], self.norm_eps)
            self.memory.weight[: len(values), n_key:d_token] = values * (_SPIKE / values.shape[1])
            directions = nn.functional.normalize(classes[:r], dim=1)
            self.output.weight[:, : len(values)] = directions.T * _WRITE
