"""What a mixer is, and what some mixers can do besides."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol, runtime_checkable

from pydantic import BaseModel
from torch import Tensor, nn

from causalrn.model.state import LayerSpec, LayerState
from causalrn.model.step import Step


class Mixer(nn.Module, ABC):
    """Mixes the tokens of sequences: what attention does in a Transformer.

    A decoder makes it as `Mixer(params, d_model, norm_eps=…, n_blocks=…)`: `norm_eps` is added to
    every standard deviation that is divided by, `n_blocks` blocks write to the residual stream.

    Attributes:
        Params: the mixer's own parameters, a frozen pydantic model.
    """

    Params: ClassVar[type[BaseModel]]

    @classmethod
    @abstractmethod
    def spec(cls, params: Any, d_model: int) -> LayerSpec:
        """The tensors that a mixer with these parameters keeps of its sequences."""

    @abstractmethod
    def forward(self, x: Tensor, reaches: Tensor, active: Tensor | None) -> Tensor:
        """Mix whole sequences for training, differentiably.

        Args:
            x: normalized residual stream `[B, T, D]`.
            reaches: `[B, T]` int64, how many of the tokens right before each one belong to its
                part of the turn (`causalrn.model.ops.positions`).
            active: `[B, T]` bool, the tokens whose result is used; None for all of them.

        Returns:
            What is added to the residual stream, `[B, T, D]`; for tokens that are not active,
            anything finite.
        """

    def match(self, layer: LayerState, slot: int) -> float | None:  # noqa: ARG002
        """How well a sequence found what it looked for; see `Decoder.match`.

        Args:
            layer: storage of the mixer's block.
            slot: of the sequence.
        """
        return None

    @property
    def op(self) -> str:
        """The operation that `extend` asks the backend for; a mixer without one has its own."""
        return ""

    def extend(self, step: Step, layer: LayerState) -> None:
        """Mix the new tokens of a step: add to the active rows of `step.x`, in place.

        However a sequence is cut into chunks, the result must be that of `forward` on the whole up
        to rounding; a backend may promise the same bits besides. Where a sequence fills a page, its
        state must be copied to the row that `step.batch.state_tables` has for that page, if any.

        A mixer that leaves all of this to one operation of backends names it in `op`, and does not
        override this method. Only then does a backend know beforehand what is to be done.

        Args:
            step: the new tokens; unlike that of `forward`, its `x` is not normalized.
            layer: storage of the mixer's block; what `spec` names is updated in place for all new
                tokens, active or not.

        Raises:
            UnsupportedOpError: the backend lacks an operation that the mixer needs.
        """
        step.op(self.op)(self, step, layer)


@runtime_checkable
class MatchesPlaces(Protocol):
    """A mixer that can start out looking for the source of the next output token."""

    def match_places(self, d_position: int) -> None:
        """Set initial weights that do so; see `causalrn.model.mixers.normalized`."""
