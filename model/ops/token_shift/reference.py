"""The convolution as its formula says, on any device and differentiable by torch itself."""

import torch
from torch import Tensor


def token_shift(x: Tensor, weight: Tensor, reaches: Tensor) -> Tensor:
    """Convolve whole sequences; tokens before the first, and out of reach, count as zeros.

    Args:
        x: `[B, T, D]`.
        weight: `[O, W, D]`; tap k multiplies the token k places back.
        reaches: `[B, T]` int64, how many of the tokens before its own each token sees at most.

    Returns:
        `[O, B, T, D]`.
    """
    width, length = weight.shape[1], x.shape[1]
    padded = torch.nn.functional.pad(x, (0, 0, width - 1, 0))
    seen = torch.stack([padded[:, width - 1 - k : width - 1 - k + length] for k in range(width)])
    taps = torch.arange(width, device=x.device)[:, None, None]
    seen = seen * (taps <= reaches)[..., None]
    return torch.einsum("kbtd,ckd->cbtd", seen, weight)
