"""The paper's mixer with other normalizations and activations: its ablations, and our questions."""

from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, Field, PositiveInt, model_validator
from torch import Tensor, nn

from causalrn.model.mixers.base import Mixer
from causalrn.model.mixers.relation import initialize
from causalrn.model.ops.norm import norm
from causalrn.model.ops.pairwise import pairwise_relation
from causalrn.model.ops.pairwise.form import Activation, Form, Normalization
from causalrn.model.state import LayerSpec, TensorSpec
from causalrn.model.validation import STRICT
from causalrn.model.weights import WeightViews

_UNTRAINED = (0.0, 1 / 3, 1 / 3, 1 / 3)  # coefficients as published, the constant one first


class PairwiseParams(BaseModel):
    """Parameters of a pairwise relation; the defaults are the paper's relation.

    Attributes:
        d_relation: width R of readers and memories, split evenly over the heads.
        n_head: number of heads H.
        normalization, centred, power, activation: see `causalrn.model.ops.pairwise.form.Form`.
        learns_temperature: whether normalized pairs are multiplied by a number of each head that is
            trained, beginning with 1.
        normalizes_output: whether there is a norm between the relation and W_o.
    """

    model_config = STRICT

    d_relation: PositiveInt
    n_head: PositiveInt = 1
    normalization: Normalization = "pair"
    centred: bool = True
    power: int = Field(default=2, ge=1, le=4)
    activation: Activation = "exp"
    learns_temperature: bool = False
    normalizes_output: bool = True

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.d_relation % self.n_head or self.d_relation == self.n_head:
            raise ValueError(
                f"d_relation ({self.d_relation}) must be a multiple of n_head ({self.n_head}), at "
                "least twice"
            )
        if self.normalization != "pair" and not (self.centred and self.power == 2):
            raise ValueError(f"centred and power are of pairs, not of {self.normalization}")
        return self


class PairwiseRelation(Mixer):
    """`W_o norm(mean over v <= t of φ(n(W_a x_t + β_a, W_b x_v))) + β_o`, pool of T·R numbers."""

    Params = PairwiseParams
    temperature: nn.Parameter | None
    coefficients: nn.Parameter | None

    def __init__(
        self, params: PairwiseParams, d_model: int, *, norm_eps: float, n_blocks: int
    ) -> None:
        super().__init__()
        self.d_model, self.d_relation, self.n_head = d_model, params.d_relation, params.n_head
        self.norm_eps, self.normalizes_output = norm_eps, params.normalizes_output
        self.form = Form(params.normalization, params.centred, params.power, params.activation)
        self.reader = nn.Linear(d_model, params.d_relation)
        self.memory = nn.Linear(d_model, params.d_relation, bias=False)
        self.output = nn.Linear(params.d_relation, d_model)
        initialize(self.reader, self.memory, self.output, n_blocks)
        self.temperature = self.coefficients = None
        if params.learns_temperature:
            self.temperature = nn.Parameter(torch.ones(params.n_head))
        if params.activation in ("poly_relu", "poly_norm"):
            self.coefficients = nn.Parameter(torch.tensor(_UNTRAINED))
        self._views = WeightViews(
            (self.reader, "weight"), (self.reader, "bias"), (self.memory, "weight"),
            (self.output, "weight"), (self.output, "bias"),
        )  # fmt: skip

    def views(self) -> tuple[NDArray[np.float32], ...]:
        """What kernels take: W_a, β_a, W_b, W_o, β_o, temperatures and coefficients."""
        return *self._views(), *(x.detach().numpy() for x in self._few(torch.device("cpu")))

    def _few(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Temperatures and coefficients, trained or not."""
        temperature, coefficients = self.temperature, self.coefficients
        return (
            torch.ones(self.n_head, device=device) if temperature is None else temperature,
            torch.tensor(_UNTRAINED, device=device) if coefficients is None else coefficients,
        )

    @classmethod
    def spec(cls, params: PairwiseParams, d_model: int) -> LayerSpec:  # noqa: ARG003
        """A pool of R numbers a token."""
        shape = params.n_head, params.d_relation // params.n_head
        return LayerSpec(pool=(TensorSpec("pool", shape),))

    def forward(self, x: Tensor, reaches: Tensor, active: Tensor | None) -> Tensor:  # noqa: ARG002
        """See `Mixer.forward`."""
        a, b = (linear(x).unflatten(-1, (self.n_head, -1)) for linear in (self.reader, self.memory))
        related = pairwise_relation(a, b, self.form, *self._few(x.device), self.norm_eps).flatten(
            -2
        )
        if self.normalizes_output:
            related = norm(related, self.norm_eps)
        written: Tensor = self.output(related)
        return written

    @property
    def op(self) -> str:
        """See `Mixer.op`."""
        return "pairwise_relation"
