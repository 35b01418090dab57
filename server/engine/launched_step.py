"""A step that the decoder has been given, and what comes of it once somebody waits for it."""

from collections.abc import Sequence as Items
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causalrn.model.predictions import Predictions
from causalrn.server.engine.scheduler import Chunk
from causalrn.server.engine.sequence import Sequence

_GONE = np.full(1, np.nan, np.float32)


@dataclass
class LaunchedStep:
    """A step that is under way, or computed.

    Attributes:
        chunks: what it computes, without those of sequences that were withdrawn meanwhile.
        rows: of its predictions that each chunk gets, by the id of its sequence.
        drawing: whose sequence each of the decoder's draws is for.
        predictions: what it leads to.
        is_followed: whether the next step was launched, which writes over its logits.
    """

    chunks: list[Chunk]
    rows: dict[str, range]
    drawing: Items[str]
    predictions: Predictions
    is_followed: bool = False

    @property
    def n_tokens(self) -> int:
        """Tokens that it computes."""
        return sum(chunk.n_rows for chunk in self.chunks)

    def wait(self) -> None:
        """Return when it is computed; raises what makes it fail."""
        _ = self.predictions.likeliest

    def places(self) -> dict[str, int]:
        """Where each sequence's next token is, as `causalrn.model.state.RaggedBatch` counts."""
        places = {id: rows.stop - 1 for id, rows in self.rows.items()}
        n_rows = sum(map(len, self.rows.values()))
        return places | {id: place for place, id in enumerate(self.drawing, n_rows)}

    def chosen(self) -> dict[str, list[int]]:
        """The tokens that the decoder chose, by the sequence that each is for."""
        chosen: dict[str, list[int]] = {}
        if self.predictions.chosen is not None:
            for id, token_id in zip(self.drawing, self.predictions.chosen.tolist(), strict=True):
                chosen.setdefault(id, []).append(token_id)
        return chosen

    def logits(self, rows: int | slice) -> NDArray[np.float32]:
        """Logits of its predictions.

        Where they are gone, nobody asks for them but to see that they are not finite.
        """
        if self.is_followed:
            return _GONE
        found: NDArray[np.float32] = self.predictions.logits.numpy()[rows]
        return found

    def withdraw(self, sequence: Sequence) -> bool:
        """Take a sequence out; False if it has no part in the step."""
        n_before = len(self.chunks)
        self.chunks = [chunk for chunk in self.chunks if chunk.sequence is not sequence]
        return len(self.chunks) < n_before
