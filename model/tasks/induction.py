"""The induction task: what came after the earlier occurrence of the last symbol?

Source: Fu et al., "Hungry Hungry Hippos: Towards Language Modeling with State Space Models" (arXiv
2212.14052), section 3.
"""

from typing import Annotated, ClassVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from causalrn.model.tasks.symbols import Ids, SymbolParams, SymbolTask


class InductionParams(SymbolParams):
    """Parameters of the induction task.

    Attributes:
        length: tokens of a sequence before the answer.
    """

    length: Annotated[int, Field(ge=3)] = 64


class Induction(SymbolTask):
    """Noise in which one symbol occurs twice, the second time at the end; its successor follows."""

    name: ClassVar[str] = "induction"
    Params: ClassVar[type[BaseModel]] = InductionParams
    params: InductionParams

    @property
    def n_tokens(self) -> int:
        """See `SymbolTask.n_tokens`."""
        return self.params.length + 1

    def draw(self, rng: Generator) -> tuple[Ids, NDArray[np.bool_]]:
        """See `SymbolTask.draw`."""
        shuffled = rng.permutation(self.symbols)
        ids = rng.choice(shuffled[1:], self.n_tokens)
        place = int(rng.integers(self.params.length - 2))
        ids[place] = ids[-2] = shuffled[0]
        ids[-1] = ids[place + 1]
        return ids, np.arange(self.n_tokens) == self.params.length
