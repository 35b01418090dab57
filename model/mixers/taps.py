"""A mixer that sees the last few tokens only: the control for what the others remember."""

from typing import ClassVar

from pydantic import BaseModel
from torch import Tensor

from causalrn.model.config import MlpConfig
from causalrn.model.mixers.base import Mixer
from causalrn.model.mlp import Mlp
from causalrn.model.state import LayerSpec


class Taps(Mlp, Mixer):
    """A channel MLP behind a causal depthwise convolution; see `Mlp`.

    It stands where a mixer stands, so a block has either it or an MLP with a token shift.
    """

    Params: ClassVar[type[BaseModel]] = MlpConfig

    @classmethod
    def spec(cls, params: MlpConfig, d_model: int) -> LayerSpec:  # type: ignore[override]
        """What was read last, as for MLPs; no pool."""
        return LayerSpec(state=Mlp.spec(params, d_model))

    def forward(self, x: Tensor, reaches: Tensor, active: Tensor | None) -> Tensor:  # type: ignore[override] # noqa: ARG002
        """See `Mixer.forward`."""
        return Mlp.forward(self, x)
