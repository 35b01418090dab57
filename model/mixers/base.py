"""What the relation mixers share: token shift, the projections around the relation, the output."""

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor, nn

from model.config import ModelConfig
from model.mixers.token_shift import TokenShift
from model.ops.norm import norm
from model.state import DecoderState, LayerSpec, LayerState, RaggedBatch
from model.weights import WeightViews

# Ten times the other weights: a difference of place outweighs what tokens add to a pair.
_MATCH_STD = 0.2


class RelationMixer(nn.Module, ABC):
    """`W_o norm(relation(W_a x + β_a, W_b x)) + β_o`; subclasses say which relation.

    Source: arXiv 2406.16168, section 3; the token shift in front of W_a and W_b is an addition.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d, r = config.d_model, config.d_relation
        self.n_head, self.eps = config.n_head, config.norm_eps
        self.shift = TokenShift(config.shift_width, d) if config.shift_width > 1 else None
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

    @staticmethod
    @abstractmethod
    def spec(config: ModelConfig) -> LayerSpec:
        """What a layer of this kind keeps of its sequences."""

    @abstractmethod
    def relate(self, a: Tensor, b: Tensor) -> Tensor:
        """Relate whole sequences; `a`, `b` and the result are `[B, T, H, K]`."""

    @abstractmethod
    def extend(
        self, batch: RaggedBatch, state: DecoderState, layer: LayerState, n_pairs: int
    ) -> None:
        """Mix the new tokens of a ragged batch, whose rows are `state.workspace.x`, in place.

        Args:
            batch: the new tokens.
            state: of the decoder, for its sizes and its scratch.
            layer: this layer's storage, updated in place.
            n_pairs: pairs of a new token and one that it sees.
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


def tail_shape(config: ModelConfig) -> tuple[int, int]:
    """Shape of the inputs that the token shift keeps of each sequence."""
    return config.shift_width - 1, config.d_model
