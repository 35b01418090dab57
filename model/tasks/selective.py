"""Selective copying: some symbols among many blanks are copied, in their order.

Source: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces" (arXiv
2312.00752), section 4.1.1.
"""

from typing import ClassVar, Self

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import BaseModel, PositiveInt, model_validator

from causalrn.model.tasks.symbols import Ids, SymbolParams, SymbolTask


class SelectiveParams(SymbolParams):
    """Parameters of selective copying.

    Attributes:
        n_copied: symbols that are copied.
        length: tokens among which they lie; the others are the first of the tokenizer's symbols.
    """

    n_copied: PositiveInt = 8
    length: PositiveInt = 48

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        if self.n_copied > self.length:
            raise ValueError(f"n_copied must be at most length = {self.length}")
        return self


class SelectiveCopying(SymbolTask):
    """Symbols among blanks, SEP, and the symbols without the blanks."""

    name: ClassVar[str] = "selective"
    Params: ClassVar[type[BaseModel]] = SelectiveParams
    params: SelectiveParams

    @property
    def n_tokens(self) -> int:
        """See `SymbolTask.n_tokens`."""
        return self.params.length + 1 + self.params.n_copied

    def draw(self, rng: Generator) -> tuple[Ids, NDArray[np.bool_]]:
        """See `SymbolTask.draw`."""
        n, length = self.params.n_copied, self.params.length
        copied = rng.choice(self.symbols[1:], n)
        read = np.full(length, self.symbols[0])
        read[np.sort(rng.choice(length, n, replace=False))] = copied
        ids = np.concatenate([read, [self._sep], copied])
        return ids, np.arange(len(ids)) > length

    def frame(self, ids: list[int], mode: str) -> list[int]:  # type: ignore[override]
        """`BOS ids SEP`."""
        return [*super().frame(ids, mode), self._sep]

    def answer_length(self, mode: str, n_prompt: int, n_context: int) -> int:  # noqa: ARG002
        """All that are copied."""
        return self.params.n_copied
