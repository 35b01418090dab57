"""What the mixers of both relations share: all but the relation itself and what it keeps."""

import math
from abc import abstractmethod
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, PositiveInt, model_validator
from torch import Tensor, nn

from model.mixers.base import Mixer
from model.mixers.token_shift import TokenShift
from model.ops.norm import norm
from model.state import TensorSpec
from model.validation import STRICT
from model.weights import WeightViews

# exp(norm(a)) · exp(norm(b)) stays within float32 while 2·sqrt(d_head - 1) < 88.
_WIDEST_HEAD = 1900


class RelationParams(BaseModel):
    """Parameters of a relation.

    Attributes:
        d_relation: width R of readers and memories, split evenly over the heads.
        n_head: number of heads H.
        shift_width: taps of the causal depthwise convolution in front of readers and memories; 1
            means none.
    """

    model_config = STRICT

    d_relation: PositiveInt
    n_head: PositiveInt = 1
    shift_width: PositiveInt = 1

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.d_relation % self.n_head:
            raise ValueError(
                f"d_relation ({self.d_relation}) must be a multiple of n_head ({self.n_head})"
            )
        if not 2 <= self.d_head <= _WIDEST_HEAD:
            raise ValueError(
                f"d_relation / n_head must be between 2 and {_WIDEST_HEAD}, got {self.d_head}"
            )
        return self

    @property
    def d_head(self) -> int:
        """Channels K of one head."""
        return self.d_relation // self.n_head


class RelationMixer(Mixer):
    """`W_o norm(relation(W_a x + β_a, W_b x)) + β_o`; subclasses say which relation.

    Source: arXiv 2406.16168, section 3; the token shift in front of W_a and W_b is an addition.
    """

    Params = RelationParams

    def __init__(
        self, params: RelationParams, d_model: int, *, norm_eps: float, n_blocks: int
    ) -> None:
        super().__init__()
        r, width = params.d_relation, params.shift_width
        self.d_model, self.d_relation, self.shift_width = d_model, r, width
        self.n_head, self.norm_eps = params.n_head, norm_eps
        self.shift = TokenShift(width, d_model) if width > 1 else None
        self.reader = nn.Linear(d_model, r)
        self.memory = nn.Linear(d_model, r, bias=False)
        self.output = nn.Linear(r, d_model)
        for linear, std in (
            (self.reader, 0.02),
            (self.memory, 0.02),
            (self.output, 0.02 / math.sqrt(n_blocks)),
        ):
            nn.init.normal_(linear.weight, std=std)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)
        shifted = () if self.shift is None else ((self.shift, "weight"),)
        self._views = WeightViews(
            *shifted, (self.reader, "weight"), (self.reader, "bias"), (self.memory, "weight"),
            (self.output, "weight"), (self.output, "bias"),
        )  # fmt: skip

    def views(self) -> tuple[NDArray[np.float32], ...]:
        """The parameters as kernels take them: taps, W_a, β_a, W_b, W_o, β_o."""
        return self._views() if self.shift_width > 1 else (*self._no_taps, *self._views())

    @cached_property
    def _no_taps(self) -> tuple[NDArray[np.float32]]:
        # Made when it is needed, since a shape may be that of a giant that is only looked at.
        return (np.ones((2, 1, self.d_model), np.float32),)

    @classmethod
    def can_grow(cls, start: RelationParams, params: RelationParams, *, may_lose: bool) -> bool:
        """See `Mixer.can_grow`: a token shift may gain taps, and lose all but the first two."""
        known = start.model_copy(update={"shift_width": params.shift_width})
        least = 2 if may_lose else max(2, start.shift_width)
        return known == params and start.shift_width > 1 and params.shift_width >= least

    @abstractmethod
    def relate(self, a: Tensor, b: Tensor) -> Tensor:
        """Relate whole sequences; `a`, `b` and the result are `[B, T, H, K]`."""

    def forward(self, x: Tensor) -> Tensor:
        """See `Mixer.forward`."""
        xa, xb = self.shift(x) if self.shift is not None else (x, x)
        heads = (self.n_head, -1)
        related = self.relate(
            self.reader(xa).unflatten(-1, heads), self.memory(xb).unflatten(-1, heads)
        )
        written: Tensor = self.output(norm(related.flatten(-2), self.norm_eps))
        return written


def tail_spec(params: RelationParams, d_model: int) -> tuple[TensorSpec, ...]:
    """What the token shift keeps of a sequence: its inputs of the last tokens, `[W - 1, D]`."""
    if params.shift_width == 1:
        return ()
    return (TensorSpec("tail", (params.shift_width - 1, d_model)),)
