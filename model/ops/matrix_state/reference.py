"""Matrix states in float64, token by token: what every other implementation is compared with.

Sources: Katharopoulos et al. (arXiv 2006.16236), additive writes; Yang et al., "Parallelizing
Linear Transformers with the Delta Rule" (arXiv 2406.06484); Siems et al., "DeltaProduct" (arXiv
2502.10297), several writes a token; Dao and Gu, "Transformers are SSMs" (arXiv 2405.21060), the
decay.
"""

import torch
from torch import Tensor


def matrix_state(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor | None, *, corrects: bool
) -> Tensor:
    """See `causalrn.model.ops.matrix_state.matrix_state`."""
    q, k, v, beta = q.double(), k.double(), v.double(), beta.double()
    batch, length, heads, n, width = k.shape
    state = v.new_zeros(batch, heads, width, v.shape[-1])
    out = []
    for t in range(length):
        if log_decay is not None:
            state = log_decay[:, t, :, None, None].double().exp() * state
        for j in range(n):
            key, value = k[:, t, :, j, :, None], v[:, t, :, j, None, :]
            known = key.mT @ state if corrects else 0.0
            state = state + beta[:, t, :, j, None, None] * key * (value - known)
        out.append((q[:, t, :, None, :] @ state)[..., 0, :])
    return torch.stack(out, 1)
