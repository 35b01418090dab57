"""What a mixer is, and what some mixers can do besides."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol, runtime_checkable

from pydantic import BaseModel
from torch import Tensor, nn

from model.state import LayerSpec, LayerState
from model.step import Step


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

    @classmethod
    def can_grow(cls, start: Any, params: Any, *, may_lose: bool) -> bool:  # noqa: ARG003
        """Whether a trained mixer can be trained further with other parameters.

        Its tensors are copied as far as the shapes agree; what is new begins as zeros.

        Args:
            start: parameters that it was trained with.
            params: parameters that it is to go on with.
            may_lose: whether it may lose something that another block does from now on.
        """
        return bool(start == params)

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Mix whole sequences for training, differentiably.

        Args:
            x: normalized residual stream `[B, T, D]`.

        Returns:
            What is added to the residual stream, `[B, T, D]`.
        """

    @abstractmethod
    def extend(self, step: Step, layer: LayerState) -> None:
        """Mix the new tokens of a step: add to the active rows of `step.x`, in place.

        However a sequence is cut into chunks, the result must be that of `forward` on the whole up
        to rounding; a backend may promise the same bits besides. Where a sequence fills a page, its
        state must be copied to the row that `step.batch.state_tables` has for that page, if any.

        Args:
            step: the new tokens; unlike that of `forward`, its `x` is not normalized.
            layer: this mixer's storage, updated in place for all new tokens, active or not.

        Raises:
            UnsupportedOpError: the backend lacks an operation that the mixer needs.
        """


@runtime_checkable
class MatchesPlaces(Protocol):
    """A mixer that can start out looking for the source of the next output token."""

    def match_places(self, d_position: int) -> None:
        """Set initial weights that do so; see `model.mixers.normalized`."""


@runtime_checkable
class MatchesContent(Protocol):
    """A mixer that can start out looking for what followed the last few tokens earlier on."""

    def match_content(self, tokens: Tensor, classes: Tensor) -> None:
        """Set initial weights that do so; see `model.mixers.normalized`."""
