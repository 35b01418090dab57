"""The paper's relations in plain torch, rounded where one asks for it. Slow, and differentiable."""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from causalrn.model.decoder import Decoder
from causalrn.model.mixers.normalized import NormalizedRelation
from causalrn.model.mixers.separable import SeparableRelation

PARTS = ("weights", "pool", "sums", "moments")


@dataclass(frozen=True)
class Rounding:
    """What is kept in `dtype`; everything else is float32.

    Attributes:
        dtype: a type of 16 bits.
        weights: all parameters.
        pool: memories `b`, as they are written.
        sums: what is added up over memories, after each one.
        moments: what is added up over channels for a mean or a deviation, by halves, after each
            addition.
        lowered: whether half of the largest exponent is subtracted from all of them, and sums are
            multiplied by what that takes off.
    """

    dtype: torch.dtype | None = None
    weights: bool = False
    pool: bool = False
    sums: bool = False
    moments: bool = False
    lowered: bool = False

    def round(self, x: Tensor, part: str) -> Tensor:
        """`x` as it is kept, if this part is; gradients pass as they are."""
        return _Rounded.apply(x, self.dtype) if getattr(self, part) else x  # type: ignore[no-untyped-call]


class _Rounded(torch.autograd.Function):
    """Rounding, whose gradient is that of the identity."""

    @staticmethod
    def forward(ctx: object, x: Tensor, dtype: torch.dtype) -> Tensor:  # noqa: ARG004
        return x.to(dtype).to(x.dtype)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        return gradient, None


def _mean(x: Tensor, rounding: Rounding) -> Tensor:
    """Over the last axis, which stays."""
    n = x.shape[-1]
    if not rounding.moments:
        return x.mean(-1, keepdim=True)
    x = nn.functional.pad(rounding.round(x, "moments"), (0, (1 << (n - 1).bit_length()) - n))
    while x.shape[-1] > 1:
        left, right = x.chunk(2, -1)
        x = rounding.round(left + right, "moments")
    return x / n


def _norm(x: Tensor, eps: float, rounding: Rounding) -> Tensor:
    centred = x - _mean(x, rounding)
    return centred / (_mean(centred.square(), rounding).sqrt() + eps)


def _lowered(x: Tensor, rounding: Rounding) -> float:
    """What is subtracted from exponents."""
    return math.sqrt(x.shape[-1] - 1) / 2 if rounding.lowered else 0.0


def normalized_relation(a: Tensor, b: Tensor, eps: float, rounding: Rounding) -> Tensor:
    """See `causalrn.model.ops.relation.normalized_relation`; memories are added in their order."""
    b = rounding.round(b, "pool")
    total, lowered = torch.zeros_like(a), _lowered(a, rounding)
    for v in range(a.shape[1]):
        exponents = _norm(a[:, v:] + b[:, v : v + 1], eps, rounding) - lowered
        added = rounding.round(exponents.exp(), "sums")
        grown = rounding.round(total[:, v:] + added, "sums")
        total = torch.cat([total[:, :v], grown], 1)
    return total * math.exp(lowered) / _counts(a)


def separable_relation(a: Tensor, b: Tensor, eps: float, rounding: Rounding) -> Tensor:
    """See `causalrn.model.ops.relation.separable_relation`; memories are added in their order."""
    lowered = _lowered(a, rounding)
    added = rounding.round((_norm(b, eps, rounding) - lowered).exp(), "sums")
    total, totals = torch.zeros_like(added[:, 0]), []
    for one in added.unbind(1):
        total = rounding.round(total + one, "sums")
        totals.append(total)
    scale = (_norm(a, eps, rounding) + lowered).exp()
    return scale * torch.stack(totals, 1) / _counts(a)


def _counts(a: Tensor) -> Tensor:
    return torch.arange(1, a.shape[1] + 1, dtype=a.dtype)[:, None, None]


class RoundedDecoder(nn.Module):
    """A decoder whose `forward` rounds.

    Args:
        decoder: of the paper's relations, whose mixers are changed for good.
        rounding: what is rounded.
    """

    def __init__(self, decoder: Decoder, rounding: Rounding) -> None:
        super().__init__()
        self.decoder, self.rounding = decoder, rounding
        for mixer in decoder.mixers:
            if isinstance(mixer, NormalizedRelation):
                relation = normalized_relation
            elif isinstance(mixer, SeparableRelation):
                relation = separable_relation
            else:
                raise TypeError(f"{type(mixer).__name__} is not rounded")
            related = partial(relation, eps=mixer.norm_eps, rounding=rounding)
            setattr(mixer, "relate", related)  # noqa: B010 - a method

    def forward(self, token_ids: Tensor, offsets: Tensor) -> Tensor:
        """See `Decoder.forward`."""
        weights = {
            name: self.rounding.round(parameter, "weights")
            for name, parameter in self.decoder.named_parameters()
        }
        logits: Tensor = torch.func.functional_call(self.decoder, weights, (token_ids, offsets))
        return logits
