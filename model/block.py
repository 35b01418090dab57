"""One block of a decoder: a sequence mixer, then maybe a channel MLP."""

from torch import Tensor

from model.config import BlockConfig, Phase
from model.mixers.base import Mixer
from model.mlp import Mlp
from model.ops.norm import norm
from model.ops.positions import OUTPUT, RECALL, SOURCE
from model.state import LayerState
from model.step import Step

PHASES: dict[Phase, int] = {"source": SOURCE, "output": OUTPUT, "recall": RECALL}

_NO_PHASE = -1


class Block:
    """Pre-norm residual branches; `mixer` and `mlp` are modules that the decoder owns.

    Args:
        config: of the block.
        mixer: mixes tokens.
        mlp: mixes channels; None for none.
        norm_eps: added to deviations.

    Attributes:
        phases: in which it writes; None for all.
    """

    def __init__(self, config: BlockConfig, mixer: Mixer, mlp: Mlp | None, norm_eps: float) -> None:
        self.mixer, self.mlp = mixer, mlp
        self.phases = (
            None if config.phases is None else tuple(PHASES[phase] for phase in config.phases)
        )
        self._eps = norm_eps

    def forward(self, x: Tensor, phases: Tensor) -> Tensor:
        """Pass whole sequences on, for training.

        Args:
            x: residual stream `[B, T, D]`.
            phases: `[B, T]` int64.
        """
        branches = (self.mixer,) if self.mlp is None else (self.mixer, self.mlp)
        for branch in branches:
            written = branch(norm(x, self._eps))
            x = x + (written if self.phases is None else written * self._writes(phases))
        return x

    def extend(self, step: Step, layer: LayerState) -> None:
        """Pass the new tokens of a step on, in place, where `step.active` says so."""
        self.mixer.extend(step, layer)
        if self.mlp is not None:
            self.mlp.extend(step)

    def silence(self) -> None:
        """Let it write nothing from now on, to see what it does for the others."""
        self.phases = (_NO_PHASE,)

    def _writes(self, phases: Tensor) -> Tensor:
        """Whether it writes to each token, `[B, T, 1]`."""
        assert self.phases is not None
        is_written = phases == self.phases[0]
        for phase in self.phases[1:]:
            is_written = is_written | (phases == phase)
        return is_written[..., None]
