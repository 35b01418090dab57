"""The last part of a decoder: from the residual stream to logits."""

from torch import Tensor, nn

from causalrn.model.ops.norm import norm
from causalrn.model.weights import WeightViews


class Classifier(nn.Linear):
    """`W_cls norm(x)`, without bias.

    Args:
        d_model: channels of the residual stream.
        vocab_size: number of logits.
        norm_eps: added to every standard deviation that is divided by.
    """

    op = "classify"
    """The operation of backends that serves it: it ends a step."""

    def __init__(self, d_model: int, vocab_size: int, *, norm_eps: float) -> None:
        super().__init__(d_model, vocab_size, bias=False)
        nn.init.normal_(self.weight, std=0.02)
        self.norm_eps = norm_eps
        self.views = WeightViews((self, "weight"))

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[…, V]` of the residual stream `[…, D]`, for training."""
        return super().forward(norm(x, self.norm_eps))
