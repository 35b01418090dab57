"""The normalization as its formula says, on any device and differentiable by torch itself."""

from torch import Tensor


def norm(x: Tensor, eps: float) -> Tensor:
    """`(x - mean) / (std + eps)` over the last axis, biased standard deviation.

    Args:
        x: any shape, any floating dtype.
        eps: added to the standard deviation (not to the variance), as in the paper.
    """
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True).sqrt() + eps)
