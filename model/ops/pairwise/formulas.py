"""What becomes of pairs, in torch: the formulas as `README.md` has them."""

from torch import Tensor
from torch.nn.functional import elu, gelu

from causalrn.model.ops.pairwise.form import POLY_NORM_EPS, Form


def related(
    pairs: Tensor, form: Form, temperature: Tensor, coefficients: Tensor, eps: float
) -> Tensor:
    """What is added up of pairs `a_t + b_v`.

    Args:
        pairs: `[*, H, K]`.
        form, temperature, coefficients, eps: see `causalrn.model.ops.pairwise.pairwise_relation`.

    Returns:
        `[*, H, K]`.
    """
    if form.normalization == "pair":
        if form.centred:
            pairs = pairs - pairs.mean(-1, keepdim=True)
        deviation = pairs.abs().pow(form.power).mean(-1, keepdim=True).pow(1 / form.power)
        pairs = pairs / (deviation + eps)
    z = temperature[:, None] * pairs
    if form.activation == "exp":
        return z.exp()
    if form.activation == "elu":
        return elu(z)
    if form.activation == "relu":
        return z.relu()
    if form.activation == "gelu":
        return gelu(z)
    if form.activation == "poly_relu":
        powers = [z.relu().pow(i) for i in (1, 2, 3)]
    else:
        powers = [
            x * (x.square().mean(-1, keepdim=True) + POLY_NORM_EPS).rsqrt()
            for x in (z.pow(i) for i in (1, 2, 3))
        ]
    added: Tensor = coefficients[0] + sum(
        c * x for c, x in zip(coefficients[1:], powers, strict=True)
    )
    return added
