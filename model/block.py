"""One block of a decoder: a sequence mixer, optionally followed by a channel MLP."""

from dataclasses import replace

from torch import Tensor

from causalrn.model.config import BlockConfig, Phase
from causalrn.model.mixers.base import Mixer
from causalrn.model.mixers.registry import MIXERS
from causalrn.model.mlp import Mlp
from causalrn.model.ops.norm import norm
from causalrn.model.ops.positions import EVERY_PHASE, OUTPUT, RECALL, SOURCE
from causalrn.model.state import LayerSpec, LayerState
from causalrn.model.step import Step

PHASES: dict[Phase, int] = {"source": SOURCE, "output": OUTPUT, "recall": RECALL}


class Block:
    """Adds to the residual stream what the mixer, and then the MLP, make of it normalized.

    It is not a module itself: the decoder owns `mixer` and `mlp`, and names their parameters.

    Args:
        config: of the block.
        mixer: passes information from token to token.
        mlp: works on the channels of each token; None if the block has no MLP.
        norm_eps: added to every standard deviation that is divided by.

    Attributes:
        phases: the phases (`causalrn.model.ops.positions`) of the tokens that it writes to; None
            for all.
    """

    def __init__(self, config: BlockConfig, mixer: Mixer, mlp: Mlp | None, norm_eps: float) -> None:
        self.mixer, self.mlp = mixer, mlp
        self.phases = (
            None if config.phases is None else tuple(PHASES[phase] for phase in config.phases)
        )
        self._eps = norm_eps

    @staticmethod
    def spec(config: BlockConfig, d_model: int) -> LayerSpec:
        """The tensors that a block with this configuration keeps of its sequences.

        Raises:
            ValueError: its mixer calls a tensor as its MLP does.
        """
        spec: LayerSpec = MIXERS.find(config.mixer).spec(config.params, d_model)
        if config.mlp is None:
            return spec
        return replace(spec, state=(*spec.state, *Mlp.spec(config.mlp, d_model)))

    def forward(self, x: Tensor, phases: Tensor, reaches: Tensor) -> Tensor:
        """Run whole sequences through the block, for training; differentiable.

        Args:
            x: residual stream `[B, T, D]`.
            phases, reaches: `[B, T]` int64.

        Returns:
            The residual stream after the block, `[B, T, D]`.
        """
        active = None if self.phases is None else self._writes(phases)
        written = self.mixer(norm(x, self._eps), reaches, active)
        x = x + (written if active is None else written * active[..., None])
        if self.mlp is not None:
            written = self.mlp(norm(x, self._eps))
            x = x + (written if active is None else written * active[..., None])
        return x

    def extend(self, step: Step, layer: LayerState) -> None:
        """Run the new tokens of a step through the block.

        Args:
            step: the rows of its `x` that are active are added to, in place.
            layer: the block's storage, updated in place for all new tokens, active or not.

        Raises:
            UnsupportedOpError: the backend lacks an operation that the mixer or the MLP needs.
        """
        self.mixer.extend(step, layer)
        if self.mlp is not None:
            self.mlp.extend(step, layer)

    @property
    def mask(self) -> int:
        """The phases of the tokens that it writes to, a bit for each; or `EVERY_PHASE`."""
        return EVERY_PHASE if self.phases is None else sum(1 << phase for phase in self.phases)

    def silence(self) -> None:
        """Let the block write nothing from now on, to see how the others do without it."""
        self.phases = ()

    def _writes(self, phases: Tensor) -> Tensor:
        """Whether the block writes to each token, `[B, T]` bool."""
        return (self.mask >> phases) & 1 == 1
