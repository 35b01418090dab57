"""The channel MLP: what every block of a Transformer has besides its mixer."""

import math

from torch import Tensor, nn

from model.config import MlpConfig
from model.step import Step
from model.weights import WeightViews


class Mlp(nn.Module):
    """`W_down gelu(W_up x + β_up) + β_down`, with GPT-2's form of the GELU.

    Args:
        config: the width.
        d_model: channels D of the residual stream.
        norm_eps: added to the standard deviation of what the MLP reads.
        n_blocks: blocks of the decoder; the more there are, the smaller the output's first weights.
    """

    op = "mlp"
    """The operation of backends that serves it."""

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
        """Mix the channels of whole sequences for training, differentiably.

        Args:
            x: normalized residual stream `[B, T, D]`.

        Returns:
            What is added to the residual stream, `[B, T, D]`.
        """
        hidden = nn.functional.gelu(self.up(x), approximate="tanh")
        written: Tensor = self.down(hidden)
        return written

    def extend(self, step: Step) -> None:
        """Mix the channels of the new tokens of a step: add to the active rows of `step.x`.

        Raises:
            UnsupportedOpError: the backend lacks the operation `mlp`.
        """
        step.op(self.op)(self, step, None)
