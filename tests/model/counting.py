"""A task that only tests know: counting up."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from causalrn.model.config import ModelConfig
from causalrn.model.tasks.base import IGNORED, Batch
from causalrn.model.tokenizers.base import Tokenizer


class CountingParams(BaseModel):
    model_config = ConfigDict(frozen=True)

    step: int = 1


class Counting:
    """After `BOS n` comes `n + step`, and so on, among the letters."""

    name: ClassVar[str] = "counting"
    Params: ClassVar[type[BaseModel]] = CountingParams

    modes = ("count",)

    def __init__(self, params: CountingParams, tokenizer: Tokenizer, config: ModelConfig) -> None:
        self.params = params
        self._bos, self._n_letters = tokenizer.bos_id, config.vocab_size - 3

    def batch(self, rng: np.random.Generator, share: float) -> Batch:
        assert 0 <= share <= 1
        first = rng.integers(self._n_letters, size=(4, 1))
        letters = 3 + (first + self.params.step * np.arange(9)) % self._n_letters
        ids = torch.from_numpy(np.insert(letters, 0, self._bos, axis=1))
        targets = ids[:, 1:].clone()
        targets[:, 0] = IGNORED
        return Batch(ids[:, :-1], targets, torch.zeros(4, dtype=torch.int64))

    def score(self, logits: Tensor, batch: Batch) -> dict[str, float]:
        assert logits.shape[:2] == batch.token_ids.shape
        return {"counted": float((logits.argmax(-1) == batch.targets).sum())}

    def frame(self, ids: Sequence[int], mode: str) -> list[int]:
        assert mode == "count"
        return [self._bos, *ids]

    def needs_context(self, mode: str) -> bool:
        return mode != "count"

    def answer_length(self, mode: str, n_prompt: int, n_context: int) -> int:
        return 5 if mode == "count" else n_prompt + n_context

    def needs_room(self, mode: str) -> bool:
        assert mode == "count"
        return False

    def least_match(self, mode: str) -> float:
        assert mode == "count"
        return 0.0

    def verify(
        self, ids: Sequence[int], answer: Sequence[int], mode: str, context: Sequence[int]
    ) -> bool | None:
        assert mode == "count"
        assert ids or answer or context
        return None
