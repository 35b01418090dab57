"""A matrix a head that every token writes to: DeltaNet, DeltaProduct and their relatives."""

import math
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, Field, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

from causalrn.model.mixers.base import Mixer
from causalrn.model.ops.matrix_state import LEAST_MEAN_SQUARE, LEAST_SQUARE, matrix_state
from causalrn.model.state import LayerSpec, TensorSpec
from causalrn.model.validation import STRICT
from causalrn.model.weights import WeightViews

_RATES = 1.0, 16.0  # between which fading begins, as in Mamba-2
_STEPS = 1e-3, 0.1  # and its steps


class MatrixStateParams(BaseModel):
    """Parameters of a matrix state. The defaults are DeltaNet.

    Attributes:
        d_key, d_value: channels K and V of a head.
        n_head: number of heads H.
        rule: whether a write replaces what the state has for its key ("delta") or is added ("add").
        n_writes: writes of a token; several, with the delta rule, are DeltaProduct.
        beta_max: what the weight of a write is less than; with 2, the delta rule may turn what it
            finds into its opposite.
        fades: whether every token first takes away a share of the state, which it decides.
    """

    model_config = STRICT

    d_key: PositiveInt
    d_value: PositiveInt
    n_head: PositiveInt = 1
    rule: Literal["delta", "add"] = "delta"
    n_writes: Annotated[int, Field(ge=1, le=8)] = 1
    beta_max: Literal[1, 2] = 1
    fades: bool = False

    @property
    def sizes(self) -> tuple[int, ...]:
        """Channels of queries, keys, values and betas, and of what fades the state, all heads."""
        h, n = self.n_head, self.n_writes
        return h * self.d_key, h * n * self.d_key, h * n * self.d_value, h * n, h * self.fades

    @property
    def n_inputs(self) -> int:
        """All of these channels."""
        return sum(self.sizes)


class MatrixState(Mixer):
    """`W_o norm(Sᵀ q) + β_o`; S fades and is written to. State of H·K·V numbers, no pool."""

    Params = MatrixStateParams

    def __init__(
        self, params: MatrixStateParams, d_model: int, *, norm_eps: float, n_blocks: int
    ) -> None:
        super().__init__()
        self.params, self.d_model, self.norm_eps = params, d_model, norm_eps
        self.inputs = nn.Linear(d_model, params.n_inputs, bias=False)
        self.output = nn.Linear(params.n_head * params.d_value, d_model)
        nn.init.normal_(self.inputs.weight, std=0.02)
        nn.init.normal_(self.output.weight, std=0.02 / math.sqrt(n_blocks))
        nn.init.zeros_(self.output.bias)
        fading: tuple[tuple[nn.Module, str], ...] = ()
        if params.fades:
            self.rates = nn.Parameter(torch.empty(params.n_head).uniform_(*_RATES).log())
            low, high = map(math.log, _STEPS)
            steps = torch.empty(params.n_head).uniform_(low, high).exp()
            self.shifts = nn.Parameter(steps + torch.log(-torch.expm1(-steps)))  # of softplus
            fading = ((self, "rates"), (self, "shifts"))
        self._views = WeightViews(
            (self.inputs, "weight"), (self.output, "weight"), (self.output, "bias"), *fading
        )

    def views(self) -> tuple[NDArray[np.float32], ...]:
        """What kernels take: W of all inputs, W_o, β_o, and what fades the state."""
        nothing = () if self.params.fades else (np.empty(0, np.float32),) * 2
        return *self._views(), *nothing

    @classmethod
    def spec(cls, params: MatrixStateParams, d_model: int) -> LayerSpec:  # noqa: ARG003
        """One matrix a head."""
        shape = params.n_head, params.d_key, params.d_value
        return LayerSpec(state=(TensorSpec("state", shape),))

    def forward(self, x: Tensor, reaches: Tensor, active: Tensor | None) -> Tensor:  # noqa: ARG002
        """See `Mixer.forward`."""
        params = self.params
        heads, writes = (params.n_head, -1), (params.n_head, params.n_writes, -1)
        q, k, v, beta, fade = self.inputs(x).split(params.sizes, -1)
        log_decay = -softplus(fade + self.shifts) * self.rates.exp() if params.fades else None
        read = matrix_state(
            _unit(q.unflatten(-1, heads)) / math.sqrt(params.d_key),
            _unit(k.unflatten(-1, writes)),
            silu(v.unflatten(-1, writes)),
            params.beta_max * beta.unflatten(-1, writes)[..., 0].sigmoid(),
            log_decay,
            corrects=params.rule == "delta",
        )
        read = read * (read.square().mean(-1, keepdim=True) + LEAST_MEAN_SQUARE).rsqrt()
        written: Tensor = self.output(read.flatten(-2))
        return written

    @property
    def op(self) -> str:
        """See `Mixer.op`."""
        return "matrix_state"


def _unit(x: Tensor) -> Tensor:
    x = silu(x)
    return x * (x.square().sum(-1, keepdim=True) + LEAST_SQUARE).rsqrt()
