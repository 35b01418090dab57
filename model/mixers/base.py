"""What the relation mixers share: token shift, the projections around the relation, the output."""

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.config import ModelConfig
from model.mixers.token_shift import TokenShift
from model.ops.norm import norm
from model.state import DecoderState, LayerSpec, LayerState, RaggedBatch
from model.weights import WeightViews

# Ten times the other weights: a difference of place outweighs what tokens add to a pair.
_MATCH_STD = 0.2
_CONTENT_STD = 0.1
_OLDER = 0.8  # weight of a token in a match of contents, against that of the one after it
_WRITE = 0.3  # what a match adds to the residual stream, in the unit of normalized channels
_SPIKE = 8.0  # what a memory's own token adds to its channel, in the unit of the other weights


class RelationMixer(nn.Module, ABC):
    """`W_o norm(relation(W_a x + β_a, W_b x)) + β_o`; subclasses say which relation.

    Source: arXiv 2406.16168, section 3; the token shift in front of W_a and W_b is an addition.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        d, r = config.d_model, config.d_relation
        self.n_head, self.eps = config.n_head, config.norm_eps
        width = config.layer_shift_width(layer)
        self.shift = TokenShift(width, d) if width > 1 else None
        self.reader = nn.Linear(d, r)
        self.memory = nn.Linear(d, r, bias=False)
        self.output = nn.Linear(r, d)
        for linear, std in (
            (self.reader, 0.02),
            (self.memory, 0.02),
            (self.output, 0.02 / math.sqrt(config.n_layer)),
        ):
            nn.init.normal_(linear.weight, std=std)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)
        self._weights = WeightViews(
            (self.reader, "weight"), (self.reader, "bias"), (self.memory, "weight"),
            (self.output, "weight"), (self.output, "bias"),
        )  # fmt: skip
        identity = np.ones((2, 1, d), np.float32)
        self._taps = (
            (lambda: (identity,)) if self.shift is None else WeightViews((self.shift, "weight"))
        )

    def match_places(self, d_position: int) -> None:
        """Start with readers that look for the memory of their own place.

        The weights that read the codes of places are drawn once and used with opposite signs: where
        places match, they cancel. A memory's place is that of its predecessor: with coupled
        positions, the reader at an output token so finds the source of the next one.

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
        only so does a match outweigh the many pairs that do not. The output makes the token
        likelier. Tokens from R on have no such channel.

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
            values = norm(tokens[:r, n_key:], self.eps)
            self.memory.weight[: len(values), n_key:d_token] = values * (_SPIKE / values.shape[1])
            directions = nn.functional.normalize(classes[:r], dim=1)
            self.output.weight[:, : len(values)] = directions.T * _WRITE

    @staticmethod
    @abstractmethod
    def spec(config: ModelConfig, layer: int) -> LayerSpec:
        """What a layer of this kind keeps of its sequences."""

    @abstractmethod
    def relate(self, a: Tensor, b: Tensor) -> Tensor:
        """Relate whole sequences; `a`, `b` and the result are `[B, T, H, K]`."""

    @abstractmethod
    def extend(
        self,
        batch: RaggedBatch,
        state: DecoderState,
        layer: LayerState,
        active: NDArray[np.bool_],
        n_pairs: int,
    ) -> None:
        """Mix the new tokens of a ragged batch, whose rows are `state.workspace.x`, in place.

        Args:
            batch: the new tokens.
            state: of the decoder, for its sizes and its scratch.
            layer: this layer's storage, updated in place.
            active: `[N]` bool, tokens that the layer writes to; it remembers the others, too.
            n_pairs: pairs of an active token and one that it sees, about.
        """

    def forward(self, x: Tensor) -> Tensor:
        """Mix whole sequences `[B, T, D]` (normalized residual stream) for training."""
        xa, xb = self.shift(x) if self.shift is not None else (x, x)
        return self._write(self.relate(*self._read(xa, xb)))

    def _read(self, xa: Tensor, xb: Tensor) -> tuple[Tensor, Tensor]:
        heads = (self.n_head, -1)
        return self.reader(xa).unflatten(-1, heads), self.memory(xb).unflatten(-1, heads)

    def _write(self, o: Tensor) -> Tensor:
        out: Tensor = self.output(norm(o.flatten(-2), self.eps))
        return out


def tail_shape(config: ModelConfig, layer: int) -> tuple[int, int]:
    """Shape of the inputs that the token shift of a layer keeps of each sequence."""
    return config.layer_shift_width(layer) - 1, config.d_model
