"""What a task is: data to train on, scores, and how a model that learned it is asked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import torch
from numpy.random import Generator
from pydantic import BaseModel
from torch import Tensor

from causalrn.model.config import ModelConfig
from causalrn.model.data.corpus import Corpus
from causalrn.model.tokenizers.base import Tokenizer

IGNORED = -100
"""Target of the tokens that bear no loss."""


class TaskError(ValueError):
    """Parameters of a task that contradict each other or the model.

    Attributes:
        key: the parameter at fault, with which the message begins; None for the task as a whole.
    """

    def __init__(self, message: str, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True)
class Batch:
    """Sequences to train on: the model reads all of them, and some of their tokens are targets.

    Attributes:
        token_ids: `[B, T]` int64.
        targets: `[B, T]` int64, the next token where the model is to write it, else `IGNORED`.
        offsets: `[B]` int64, how many tokens each sequence pretends to have seen before.
        notes: numbers about the batch for the log, such as how difficult it may be.
    """

    token_ids: Tensor
    targets: Tensor
    offsets: Tensor
    notes: Mapping[str, float] = field(default_factory=dict)

    def to(self, device: torch.device) -> Self:
        """The same batch with its tensors on a device."""
        names = ("token_ids", "targets", "offsets")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


@runtime_checkable
class ReadsData(Protocol):
    """A task that may be trained on texts of a user."""

    @property
    def needs_data(self) -> bool:
        """Whether it cannot be trained without."""

    def read(self, corpus: Corpus) -> None:
        """Take what is to be trained on.

        Raises:
            DataError: it is too little.
        """


@runtime_checkable
class Validates(Protocol):
    """A task that scores a model by data that are held out, while it is trained."""

    def validate(self, predict: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Score a model.

        Args:
            predict: gives the logits `[B, T, vocab_size]` of sequences `[B, T]`.

        Returns:
            Scores by their names, for the log and for people.
        """

    def beginning(self) -> list[int]:
        """Content ids that begin a sample of what the model writes."""


class Task(Protocol):
    """What a decoder is trained on, and what it can then be asked to do.

    Attributes:
        name: what presets and checkpoints call it.
        Params: its parameters, a frozen pydantic model in which every field has a default.
    """

    name: ClassVar[str]
    Params: ClassVar[type[BaseModel]]

    def __init__(self, params: Any, tokenizer: Tokenizer, config: ModelConfig) -> None:
        """Make the task for one model.

        Args:
            params: an instance of `Params`.
            tokenizer: of the model.
            config: shape of the model.

        Raises:
            TaskError: such a model cannot be trained on such data.
        """

    @property
    def params(self) -> BaseModel:
        """The parameters that it was made from."""

    @property
    def modes(self) -> tuple[str, ...]:
        """Names of what a model can be asked to do, at least one; the first is the default."""

    def batch(self, rng: Generator, share: float) -> Batch:
        """Draw training data.

        Args:
            rng: the source of all randomness.
            share: how much of the run is done, from 0 to 1, for data that grows more difficult.
        """

    def score(self, logits: Tensor, batch: Batch) -> dict[str, float]:
        """Score a model's predictions for a batch; the loss is computed elsewhere.

        Args:
            logits: `[B, T, vocab_size]` float32.
            batch: what they were computed for, on the same device.

        Returns:
            Scores by their names, for the log and for people.
        """

    def frame(self, ids: Sequence[int], mode: str) -> list[int]:
        """The prompt that asks for a mode: content ids with the special ids that training uses."""

    def needs_context(self, mode: str) -> bool:
        """Whether a mode makes sense only after tokens that a session read earlier."""

    def answer_length(self, mode: str, n_prompt: int, n_context: int) -> int:
        """How many tokens an answer may have where the request does not say.

        Args:
            mode: what the model is asked to do.
            n_prompt: content ids of the prompt.
            n_context: tokens that the session read earlier; 0 without a session.
        """

    def needs_room(self, mode: str) -> bool:
        """Whether an answer is of use only as a whole, so that there must be room for all of it."""

    def least_match(self, mode: str) -> float:
        """How well a model must have found what a mode looks for, or it gives no answer.

        From 0, for any answer, to 1; what is compared with it is `Decoder.match`.
        """

    def verify(
        self, ids: Sequence[int], answer: Sequence[int], mode: str, context: Sequence[int]
    ) -> bool | None:
        """Whether an answer is right, by what was read and not by the model.

        It must take no longer than time in proportion to the tokens, of which there may be many.

        Args:
            ids: content ids of the prompt.
            answer: all that was written, EOS included if that ended it.
            mode: what the model was asked to do.
            context: what the session read and wrote before, special ids included.

        Returns:
            None if the task cannot tell.
        """
