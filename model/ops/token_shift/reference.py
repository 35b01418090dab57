"""The convolution as its formula says, on any device and differentiable by torch itself."""

import torch
from torch import Tensor


def token_shift(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve whole sequences; tokens before the first count as zeros.

    Args:
        x: `[B, T, D]`.
        weight: `[2, W, D]`; tap k multiplies the token k places back.

    Returns:
        `[2, B, T, D]`.
    """
    width, length = weight.shape[1], x.shape[1]
    padded = torch.nn.functional.pad(x, (0, 0, width - 1, 0))
    seen = torch.stack([padded[:, width - 1 - k : width - 1 - k + length] for k in range(width)])
    return torch.einsum("kbtd,ckd->cbtd", seen, weight)
