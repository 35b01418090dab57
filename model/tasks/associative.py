"""Multi-query associative recall: pairs of keys and values, and then the keys again.

Source: Arora et al., "Zoology: Measuring and Improving Recall in Efficient Language Models" (arXiv
2312.04927). Here every key is asked for, in any order, right after all pairs.
"""

from typing import ClassVar, Self

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import BaseModel, PositiveInt, model_validator

from causalrn.model.config import ModelConfig
from causalrn.model.tasks.base import TaskError
from causalrn.model.tasks.symbols import Ids, SymbolParams, SymbolTask
from causalrn.model.tokenizers.base import Tokenizer


class AssociativeParams(SymbolParams):
    """Parameters of associative recall.

    Attributes:
        n_pairs: in a sequence, all of different keys.
        min_pairs: at least so many; the sequence then begins with symbols of no pair. As many as
            `n_pairs` if left out.
    """

    n_pairs: PositiveInt = 8
    min_pairs: PositiveInt | None = None

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        if self.least > self.n_pairs:
            raise ValueError(f"min_pairs must be at most n_pairs = {self.n_pairs}")
        return self

    @property
    def least(self) -> int:
        """The fewest pairs of a sequence."""
        return self.min_pairs or self.n_pairs


class AssociativeRecall(SymbolTask):
    """`k v k v … k v k v`: in the second half, values follow from keys.

    Half of the symbols are keys, the others values.
    """

    name: ClassVar[str] = "associative"
    Params: ClassVar[type[BaseModel]] = AssociativeParams
    params: AssociativeParams

    def __init__(
        self, params: AssociativeParams, tokenizer: Tokenizer, config: ModelConfig
    ) -> None:
        super().__init__(params, tokenizer, config)
        self._keys, self._values = np.array_split(self.symbols, 2)
        if params.n_pairs > len(self._keys):
            raise TaskError(
                f"n_pairs must be at most {len(self._keys)}, half of the tokenizer's symbols, got "
                f"{params.n_pairs}",
                "n_pairs",
            )

    @property
    def n_tokens(self) -> int:
        """See `SymbolTask.n_tokens`."""
        return 4 * self.params.n_pairs

    def draw(self, rng: Generator) -> tuple[Ids, NDArray[np.bool_]]:
        """See `SymbolTask.draw`."""
        n = int(rng.integers(self.params.least, self.params.n_pairs + 1))
        keys = rng.choice(self._keys, n, replace=False)
        pairs = np.stack([keys, rng.choice(self._values, n)], 1)
        asked = pairs[rng.permutation(n)]
        n_before = self.n_tokens - 4 * n
        before = rng.choice(self._values, n_before)
        follows = np.zeros(self.n_tokens, np.bool_)
        follows[n_before + 2 * n + 1 :: 2] = True
        return np.concatenate([before, pairs.reshape(-1), asked.reshape(-1)]), follows
