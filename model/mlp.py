"""The channel MLP: what every block of a Transformer has besides its mixer."""

import math

from torch import Tensor, nn

from model.config import MlpConfig
from model.step import Step
from model.weights import WeightViews


class Mlp(nn.Module):
    """`W_down gelu(W_up x + β_up) + β_down`, with GPT-2's form of the GELU.

    Args:
        config: its width.
        d_model: channels of the residual stream.
        norm_eps: added to the deviation of what it reads.
        n_blocks: blocks of the decoder, which decides how small the weights of its output begin.
    """

    def __init__(self, config: MlpConfig, d_model: int, *, norm_eps: float, n_blocks: int) -> None:
        super().__init__()
        self.norm_eps = norm_eps
        self.up = nn.Linear(d_model, config.width)
        self.down = nn.Linear(config.width, d_model)
        for linear, std in ((self.up, 0.02), (self.down, 0.02 / math.sqrt(n_blocks))):
            nn.init.normal_(linear.weight, std=std)
            nn.init.zeros_(linear.bias)
        self.views = WeightViews(
            (self.up, "weight"), (self.up, "bias"), (self.down, "weight"), (self.down, "bias")
        )

    def forward(self, x: Tensor) -> Tensor:
        """Mix the channels of `[B, T, D]` (normalized residual stream) for training."""
        hidden = nn.functional.gelu(self.up(x), approximate="tanh")
        written: Tensor = self.down(hidden)
        return written

    def extend(self, step: Step) -> None:
        """Add to the active rows of `step.x`, in place."""
        step.op("mlp")(self, step)
