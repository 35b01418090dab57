"""The channel MLP: what every block of a Transformer has besides its mixer."""

import math

import torch
from torch import Tensor, nn

from causalrn.model.config import MlpConfig
from causalrn.model.ops.token_shift import token_shift
from causalrn.model.state import LayerState, TensorSpec
from causalrn.model.step import Step
from causalrn.model.weights import WeightViews


class Mlp(nn.Module):
    """`W_down gelu(W_up x + β_up) + β_down`, with GPT-2's form of the GELU.

    With a token shift of W taps, `x` is what a causal depthwise convolution makes of it: tap k, row
    k of `taps` `[W, D]`, multiplies the token k places back. It starts as the identity.

    Args:
        config: the width, and that of the token shift.
        d_model: channels D of the residual stream.
        norm_eps: added to the standard deviation of what the MLP reads.
        n_blocks: blocks of the decoder; the more there are, the smaller the output's first weights.
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
        self.taps: nn.Parameter | None = None
        if config.shift_width > 1:
            taps = torch.zeros(config.shift_width, d_model)
            taps[0] = 1.0
            self.taps = nn.Parameter(taps)
            self.tap_views = WeightViews((self, "taps"))

    @staticmethod
    def spec(config: MlpConfig, d_model: int) -> tuple[TensorSpec, ...]:
        """The state that an MLP with this configuration keeps: what it read last, `[W - 1, D]`."""
        if config.shift_width == 1:
            return ()
        return (TensorSpec("mlp_tail", (config.shift_width - 1, d_model)),)

    @property
    def op(self) -> str:
        """The operation of backends that serves it."""
        return "mlp" if self.taps is None else "shifted_mlp"

    def forward(self, x: Tensor) -> Tensor:
        """Mix the channels of whole sequences for training, differentiably.

        Args:
            x: normalized residual stream `[B, T, D]`.

        Returns:
            What is added to the residual stream, `[B, T, D]`.
        """
        if self.taps is not None:
            everywhere = torch.full(x.shape[:2], x.shape[1], device=x.device)
            x = token_shift(x, self.taps[None], everywhere)[0]
        hidden = nn.functional.gelu(self.up(x), approximate="tanh")
        written: Tensor = self.down(hidden)
        return written

    def extend(self, step: Step, layer: LayerState) -> None:
        """Mix the channels of the new tokens of a step: add to the active rows of `step.x`.

        Args:
            step: the new tokens; unlike that of `forward`, its `x` is not normalized.
            layer: the block's storage; what `spec` names is updated in place for all new tokens,
                active or not, and kept where pages fill, as mixers do.

        Raises:
            UnsupportedOpError: the backend lacks the operation `op`.
        """
        step.op(self.op)(self, step, layer)
