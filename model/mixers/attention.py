"""What Transformers mix tokens with: attention, and linear attention."""

import math
from abc import abstractmethod
from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn

from causalrn.model.mixers.base import Mixer
from causalrn.model.ops.attention import linear_attention, rotate, softmax_attention
from causalrn.model.state import LayerSpec, TensorSpec
from causalrn.model.validation import STRICT
from causalrn.model.weights import WeightViews


class HeadParams(BaseModel):
    """Parameters of both kinds of attention.

    Attributes:
        d_attention: width R of queries, keys and values, split evenly over the heads.
        n_head: number of heads H.
    """

    model_config = STRICT

    d_attention: PositiveInt
    n_head: PositiveInt = 1

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.d_attention % self.n_head:
            raise ValueError(
                f"d_attention ({self.d_attention}) must be a multiple of n_head ({self.n_head})"
            )
        return self

    @property
    def d_head(self) -> int:
        """Channels K of one head."""
        return self.d_attention // self.n_head


class AttentionParams(HeadParams):
    """Parameters of softmax attention.

    Attributes:
        rotary: whether queries and keys are turned by their places (RoPE).
        windows: of each head, how many of the last tokens it sees, a token's own included, 0 for
            all; None if all heads see all tokens.
    """

    rotary: bool = False
    windows: Annotated[tuple[NonNegativeInt, ...], Field(strict=False)] | None = None

    @model_validator(mode="after")
    def _check_places(self) -> Self:
        if self.rotary and self.d_head % 2:
            raise ValueError(
                f"rotary needs an even number of channels in each head, got {self.d_head}: "
                f"d_attention ({self.d_attention}) over n_head ({self.n_head})"
            )
        if self.windows is not None and len(self.windows) != self.n_head:
            raise ValueError(
                f"windows must have one number for each of n_head ({self.n_head}) heads, got "
                f"{len(self.windows)}"
            )
        return self


class _AttentionMixer(Mixer):
    """`W_o attention(W_q x + β_q, W_k x + β_k, W_v x + β_v) + β_o`."""

    Params: ClassVar[type[HeadParams]] = HeadParams

    def __init__(self, params: HeadParams, d_model: int, *, norm_eps: float, n_blocks: int) -> None:
        super().__init__()
        self.d_model, self.d_attention, self.n_head = d_model, params.d_attention, params.n_head
        self.norm_eps = norm_eps
        self.inputs = nn.Linear(d_model, 3 * params.d_attention)
        self.output = nn.Linear(params.d_attention, d_model)
        for linear, std in ((self.inputs, 0.02), (self.output, 0.02 / math.sqrt(n_blocks))):
            nn.init.normal_(linear.weight, std=std)
            nn.init.zeros_(linear.bias)
        self.views = WeightViews(
            (self.inputs, "weight"), (self.inputs, "bias"), (self.output, "weight"),
            (self.output, "bias"),
        )  # fmt: skip

    @abstractmethod
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend over whole sequences; all are `[B, T, H, K]`."""

    def forward(self, x: Tensor, reaches: Tensor, active: Tensor | None) -> Tensor:  # noqa: ARG002
        """See `Mixer.forward`."""
        q, k, v = self.inputs(x).unflatten(-1, (3, self.n_head, -1)).unbind(2)
        written: Tensor = self.output(self.attend(q, k, v).flatten(-2))
        return written


class Attention(_AttentionMixer):
    """Softmax attention. Its pool, which others call a KV cache, has two rows for each token."""

    Params = AttentionParams

    def __init__(
        self, params: AttentionParams, d_model: int, *, norm_eps: float, n_blocks: int
    ) -> None:
        super().__init__(params, d_model, norm_eps=norm_eps, n_blocks=n_blocks)
        self.rotary, self.windows = params.rotary, params.windows or (0,) * params.n_head

    @classmethod
    def spec(cls, params: AttentionParams, d_model: int) -> LayerSpec:  # noqa: ARG003
        """A pool of keys and values, 2·R numbers a token."""
        shape = params.n_head, params.d_head
        return LayerSpec(pool=(TensorSpec("keys", shape), TensorSpec("values", shape)))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See `_AttentionMixer.attend`."""
        if self.rotary:
            q, k = rotate(q), rotate(k)
        return softmax_attention(q, k, v, self.windows)

    @property
    def op(self) -> str:
        """See `Mixer.op`; what goes by places asks for another one, which not all backends have."""
        goes_by_places = self.rotary or any(self.windows)
        return "rotary_or_windowed_attention" if goes_by_places else "attention"


class LinearAttention(_AttentionMixer):
    """Linear attention: sums that do not grow with the sequence, K·(K + 1) numbers a head."""

    @classmethod
    def spec(cls, params: HeadParams, d_model: int) -> LayerSpec:  # noqa: ARG003
        """Running sums, no pool."""
        shape = params.n_head, params.d_head, params.d_head + 1
        return LayerSpec(state=(TensorSpec("sums", shape),))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See `_AttentionMixer.attend`."""
        return linear_attention(q, k, v)

    @property
    def op(self) -> str:
        """See `Mixer.op`."""
        return "linear_attention"
