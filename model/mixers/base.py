"""What a mixer is, and what some mixers can do besides."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol, runtime_checkable

from pydantic import BaseModel
from torch import Tensor, nn

from model.state import LayerSpec, LayerState
from model.step import Step


class Mixer(nn.Module, ABC):
    """Mixes the tokens of sequences: what attention does in a Transformer.

    A subclass is made as `Mixer(params, d_model, norm_eps=…, n_blocks=…)`: `norm_eps` is added to
    every deviation that is divided by, `n_blocks` blocks share the residual stream.

    Attributes:
        Params: the mixer's own parameters, a frozen pydantic model.
    """

    Params: ClassVar[type[BaseModel]]

    @classmethod
    @abstractmethod
    def spec(cls, params: Any, d_model: int) -> LayerSpec:
        """What a layer of these parameters keeps of its sequences."""

    @classmethod
    def can_grow(cls, start: Any, params: Any, *, may_lose: bool) -> bool:  # noqa: ARG003
        """Whether a mixer of some parameters can go on as one of others.

        Its tensors are copied as far as both have them; what is new begins as zeros.

        Args:
            start: parameters of the one that was trained.
            params: of the one that goes on.
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

        Any chunking of a sequence must give what `forward` gives on the whole, and the same bits as
        any other chunking. Where a sequence fills a page, the layer's state is copied to the row
        that `step.batch.state_tables` has for it.

        Args:
            step: the new tokens; not normalized.
            layer: this layer's storage, updated in place for all new tokens, active or not.
        """


@runtime_checkable
class MatchesPlaces(Protocol):
    """A mixer that can start out looking for the source of the next output token."""

    def match_places(self, d_position: int) -> None:
        """Set the weights so; see `model.mixers.normalized`."""


@runtime_checkable
class MatchesContent(Protocol):
    """A mixer that can start out looking for what followed the last tokens before."""

    def match_content(self, tokens: Tensor, classes: Tensor) -> None:
        """Set the weights so; see `model.mixers.normalized`."""
