"""Working memory of the CPU's steps."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalrn.model.ops.relation.cpu import SEGMENT
from causalrn.model.state import RaggedBatch


class Scratch:
    """Arrays that every step uses again, so that it need not allocate them.

    N is the largest number of new tokens that any step has had so far.

    Attributes:
        n_moves: how many times these arrays have been replaced by larger ones.
        x: `[N, D]` float32.
        phases, reaches: `[N]` int64.
        active: `[N]` bool.
        boundless: `[N]` int64, reaches that stop at no border.
        no_tails: `[n_states, 0, D]` float32, the tails of a mixer without a token shift.
        program: of the steps, once there is one.
        nothing_found: `[0, 2]` float64, of a mixer that does not tell how well it matched.
    """

    def __init__(self, d_model: int, n_states: int) -> None:
        self._d_model = d_model
        self._n_rows = self._n_segments = self.n_moves = 0
        self.program: Any = None
        self._waves: dict[int, NDArray[np.float32]] = {}
        self.no_tails = np.empty((n_states, 0, d_model), np.float32)
        self.nothing_found = np.empty((0, 2))
        self._replace(1, 1)

    def like(self) -> "Scratch":
        """Another one, with as much room."""
        other = Scratch(self._d_model, len(self.no_tails))
        other._replace(self._n_rows, self._n_segments)
        return other

    def make_room(self, batch: RaggedBatch, page_size: int) -> None:
        """Have room for all rows and segments of a batch; what was in the arrays may be lost."""
        n_rows, n_pages = len(batch.token_ids), batch.block_tables.shape[1]
        if n_rows <= self._n_rows and n_pages * page_size <= self._n_segments * SEGMENT:
            return  # as all but a few of the steps: tables are about as long as what they hold
        longest = int((batch.context_lens + np.diff(batch.starts)).max())
        n_segments = -(-longest // SEGMENT)
        if n_rows > self._n_rows or n_segments > self._n_segments:
            self._replace(max(n_rows, self._n_rows), max(n_segments, self._n_segments))

    def _replace(self, n_rows: int, n_segments: int) -> None:
        self.n_moves += 1
        self._n_rows, self._n_segments = n_rows, n_segments
        self.x = np.empty((self._n_rows, self._d_model), np.float32)
        self.phases = np.empty(self._n_rows, np.int64)
        self.reaches = np.empty(self._n_rows, np.int64)
        self.boundless = np.full(self._n_rows, np.iinfo(np.int64).max // 2)
        self.active = np.empty(self._n_rows, np.bool_)
        self._rows: dict[tuple[str, int, int], tuple[NDArray[np.float32], ...]] = {}
        self._segments: dict[int, NDArray[np.float32]] = {}

    def rows(self, purpose: str, n: int, width: int) -> tuple[NDArray[np.float32], ...]:
        """`n` arrays of rows, `[N, width]` float32; the same ones whenever all three agree."""
        known = self._rows.get((purpose, n, width))
        if known is None:
            arrays = np.empty((n, self._n_rows, width), np.float32)
            known = self._rows[purpose, n, width] = tuple(arrays)
        return known

    def segments_of(self, n_readers: int, n_tokens: int, width: int) -> NDArray[np.float32]:
        """Rows for so many readers in each segment of so many tokens, `[n, n_readers, width]`."""
        n_segments = -(-self._n_segments * SEGMENT // n_tokens)
        known = self._waves.get(width)
        if known is None or len(known) < n_segments:
            known = self._waves[width] = np.empty((n_segments, n_readers, width), np.float32)
        return known

    def segments(self, width: int) -> NDArray[np.float32]:
        """Rows for each segment of the longest pool, `[n_segments, N, width]` float32."""
        known = self._segments.get(width)
        if known is None:
            shape = self._n_segments, self._n_rows, width
            known = self._segments[width] = np.empty(shape, np.float32)
        return known
