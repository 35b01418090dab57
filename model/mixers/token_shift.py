"""Short causal depthwise convolution: lets a token see the few tokens before it."""

import torch
from torch import Tensor, nn

from model.ops.token_shift import token_shift


class TokenShift(nn.Module):
    """Two depthwise causal convolutions of one input, for readers and for memories.

    Weight `[2, width, D]`; tap k multiplies the token k places back. Starts as the identity.
    """

    def __init__(self, width: int, d_model: int) -> None:
        super().__init__()
        weight = torch.zeros(2, width, d_model)
        weight[:, 0] = 1.0
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The inputs of readers and of memories, `[B, T, D]` each, of whole sequences."""
        readers, memories = token_shift(x, self.weight)
        return readers, memories
