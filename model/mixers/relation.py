"""What the mixers of both relations share: all but the relation itself and what it keeps."""

import math
from abc import abstractmethod
from functools import cached_property
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, PositiveInt, model_validator
from torch import Tensor, nn

from causalrn.model.mixers.base import Mixer
from causalrn.model.mixers.token_shift import TokenShift
from causalrn.model.ops.norm import norm
from causalrn.model.state import TensorSpec
from causalrn.model.validation import STRICT
from causalrn.model.weights import WeightViews

# exp(norm(a)) · exp(norm(b)) stays within float32 while 2·sqrt(d_head - 1) < 88.
_WIDEST_HEAD = 1900


class RelationParams(BaseModel):
    """Parameters of a relation.

    Attributes:
        d_relation: width R of readers and memories, split evenly over the heads.
        n_head: number of heads H.
        shift_width: taps of the causal depthwise convolution in front of readers and memories; 1
            means none.
        shift_channels: first channel that is convolved, and the one after the last; None for all.
        within_turn: whether these taps stop at the border of a turn.
    """

    model_config = STRICT

    d_relation: PositiveInt
    n_head: PositiveInt = 1
    shift_width: PositiveInt = 1
    shift_channels: Annotated[tuple[int, int], Field(strict=False)] | None = None
    within_turn: bool = False

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
        if self.shift_channels is not None and not (
            0 <= self.shift_channels[0] < self.shift_channels[1]
        ):
            raise ValueError(
                f"shift_channels must be the first and the one after the last, got "
                f"{list(self.shift_channels)}"
            )
        return self

    @property
    def d_head(self) -> int:
        """Channels K of one head."""
        return self.d_relation // self.n_head

    @property
    def reader_width(self) -> int:
        """Rows of W_a."""
        return self.d_relation

    @property
    def memory_width(self) -> int:
        """Rows of W_b."""
        return self.d_relation

    @property
    def n_values(self) -> int:
        """Channels of the relation that W_o reads."""
        return self.d_relation

    def shifted(self, d_model: int) -> tuple[int, int]:
        """First channel of D that the token shift convolves, and the one after the last."""
        return self.shift_channels or (0, d_model)


class RelationMixer(Mixer):
    """`W_o norm(relation(W_a x + β_a, W_b x)) + β_o`; subclasses say which relation.

    Source: arXiv 2406.16168, section 3; the token shift in front of W_a and W_b is an addition.
    """

    Params = RelationParams

    def __init__(
        self, params: RelationParams, d_model: int, *, norm_eps: float, n_blocks: int
    ) -> None:
        super().__init__()
        width, shifted = params.shift_width, params.shifted(d_model)
        if shifted[1] > d_model:
            raise ValueError(f"shift_channels must end by d_model = {d_model}, got {shifted[1]}")
        self.d_model, self.d_relation, self.shift_width = d_model, params.d_relation, width
        self.n_head, self.norm_eps = params.n_head, norm_eps
        self.shift_channels, self.within_turn = shifted, params.within_turn
        self.shift = (
            TokenShift(width, shifted, within_turn=params.within_turn) if width > 1 else None
        )
        self.reader = nn.Linear(d_model, params.reader_width)
        self.memory = nn.Linear(d_model, params.memory_width, bias=False)
        self.output = nn.Linear(params.n_values, d_model)
        initialize(self.reader, self.memory, self.output, n_blocks)
        taps = () if self.shift is None else ((self.shift, "weight"),)
        self._views = WeightViews(
            *taps, (self.reader, "weight"), (self.reader, "bias"), (self.memory, "weight"),
            (self.output, "weight"), (self.output, "bias"),
        )  # fmt: skip

    def views(self) -> tuple[NDArray[np.float32], ...]:
        """The parameters as kernels take them: taps, W_a, β_a, W_b, W_o, β_o."""
        return self._views() if self.shift_width > 1 else (*self._no_taps, *self._views())

    @cached_property
    def _no_taps(self) -> tuple[NDArray[np.float32]]:
        # Made when it is needed, since a shape may be that of a giant that is only looked at.
        first, end = self.shift_channels
        return (np.ones((2, 1, end - first), np.float32),)

    @abstractmethod
    def relate(self, a: Tensor, b: Tensor) -> Tensor:
        """Relate whole sequences; `a`, `b` and the result are `[B, T, H, K]`."""

    def forward(self, x: Tensor, reaches: Tensor, active: Tensor | None) -> Tensor:  # noqa: ARG002
        """See `Mixer.forward`."""
        xa, xb = self.shift(x, reaches) if self.shift is not None else (x, x)
        heads = (self.n_head, -1)
        related = self.relate(
            self.reader(xa).unflatten(-1, heads), self.memory(xb).unflatten(-1, heads)
        )
        written: Tensor = self.output(norm(related.flatten(-2), self.norm_eps))
        return written


def initialize(reader: nn.Linear, memory: nn.Linear, output: nn.Linear, n_blocks: int) -> None:
    """Draw weights as the paper does: N(0, 0.02²), of the output less for more blocks."""
    for linear, std in ((reader, 0.02), (memory, 0.02), (output, 0.02 / math.sqrt(n_blocks))):
        nn.init.normal_(linear.weight, std=std)
        if linear.bias is not None:
            nn.init.zeros_(linear.bias)


def tail_spec(params: RelationParams, d_model: int) -> tuple[TensorSpec, ...]:
    """What the token shift keeps of a sequence: its inputs of the last tokens, `[W - 1, C]`."""
    if params.shift_width == 1:
        return ()
    first, end = params.shifted(d_model)
    return (TensorSpec("tail", (params.shift_width - 1, end - first)),)
