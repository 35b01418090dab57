"""Short causal depthwise convolution: lets a token see the few tokens before it."""

import torch
from torch import Tensor, nn

from causalrn.model.ops.token_shift import token_shift


class TokenShift(nn.Module):
    """Two depthwise causal convolutions of one input, for readers and for memories.

    Weight `[2, width, C]`; tap k multiplies the token k places back. Starts as the identity.

    Args:
        width: taps.
        channels: first channel that is convolved, and the one after the last; the others pass
            unchanged.
        within_turn: whether taps stop at the border of a turn.
    """

    def __init__(self, width: int, channels: tuple[int, int], *, within_turn: bool) -> None:
        super().__init__()
        self.channels, self.within_turn = channels, within_turn
        first, end = channels
        weight = torch.zeros(2, width, end - first)
        weight[:, 0] = 1.0
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor, reaches: Tensor) -> tuple[Tensor, Tensor]:
        """The inputs of readers and of memories, `[B, T, D]` each, of whole sequences.

        Args:
            x: `[B, T, D]`.
            reaches: `[B, T]` int64; see `Mixer.forward`.
        """
        first, end = self.channels
        if not self.within_turn:
            reaches = torch.full_like(reaches, x.shape[1])
        shifted = token_shift(x[..., first:end], self.weight, reaches)
        if end - first == x.shape[-1]:
            readers, memories = shifted
        else:
            readers, memories = (
                torch.cat([x[..., :first], part, x[..., end:]], -1) for part in shifted
            )
        return readers, memories
