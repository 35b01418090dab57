"""What tasks in context have in common: sequences of symbols, some of which follow from others."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import BaseModel, PositiveInt
from torch import Tensor

from causalrn.model.config import ModelConfig
from causalrn.model.tasks.base import IGNORED, Batch, TaskError
from causalrn.model.tokenizers.base import Tokenizer, special_tokens
from causalrn.model.validation import STRICT

Ids = NDArray[np.int64]


class SymbolParams(BaseModel):
    """Parameters of all such tasks.

    Attributes:
        n_sequences: in a batch.
    """

    model_config = STRICT

    n_sequences: PositiveInt = 64


class SymbolTask(ABC):
    """Sequences of the tokenizer's symbols, each with new rules, behind BOS.

    A subclass draws them, and says which symbols follow from those before.
    """

    name: ClassVar[str]
    Params: ClassVar[type[BaseModel]]
    modes = ("answer",)

    def __init__(self, params: Any, tokenizer: Tokenizer, config: ModelConfig) -> None:
        self.params = params
        self._bos, self._sep = config.bos_id, config.sep_id
        specials = special_tokens(tokenizer)
        self.symbols = np.array([i for i in range(tokenizer.vocab_size) if i not in specials])
        if self.n_tokens > config.max_seq_len:
            raise TaskError(
                f"its sequences take {self.n_tokens} tokens, more than max_seq_len = "
                f"{config.max_seq_len} of the model"
            )

    @property
    @abstractmethod
    def n_tokens(self) -> int:
        """Tokens that a model reads of a sequence, BOS included."""

    @abstractmethod
    def draw(self, rng: Generator) -> tuple[Ids, NDArray[np.bool_]]:
        """A sequence without BOS, `[n_tokens]`, and which of its tokens follow from the others.

        Its last token is not read, only written.
        """

    def batch(self, rng: Generator, share: float) -> Batch:  # noqa: ARG002
        """See `Task.batch`."""
        drawn = [self.draw(rng) for _ in range(self.params.n_sequences)]
        ids, follows = zip(*drawn, strict=True)
        return self._batch_of(np.stack(ids), np.stack(follows))

    def _batch_of(self, ids: Ids, follows: NDArray[np.bool_]) -> Batch:
        """A batch of drawn sequences, `[B, n_tokens]`."""
        read = np.insert(ids[:, :-1], 0, self._bos, axis=1)
        targets = np.where(follows, ids, IGNORED)
        offsets = torch.zeros(len(ids), dtype=torch.int64)
        return Batch(torch.from_numpy(read), torch.from_numpy(targets), offsets)

    def score(self, logits: Tensor, batch: Batch) -> dict[str, float]:
        """The share of the targets that are the likeliest token, as `accuracy`."""
        wanted = batch.targets != IGNORED
        right = logits[wanted].argmax(-1) == batch.targets[wanted]
        return {"accuracy": right.double().mean().item()}

    def frame(self, ids: Sequence[int], mode: str) -> list[int]:  # noqa: ARG002
        """`BOS ids`: what comes next is the answer."""
        return [self._bos, *ids]

    def needs_context(self, mode: str) -> bool:  # noqa: ARG002
        """A sequence stands alone."""
        return False

    def answer_length(self, mode: str, n_prompt: int, n_context: int) -> int:  # noqa: ARG002
        """One symbol, unless a subclass says otherwise."""
        return 1

    def needs_room(self, mode: str) -> bool:  # noqa: ARG002
        """An answer is right as far as it goes."""
        return False

    def least_match(self, mode: str) -> float:  # noqa: ARG002
        """An answer is always given."""
        return 0.0

    def verify(self, *_: object) -> bool | None:
        """See `Task.verify`: it cannot be told."""
        return None
