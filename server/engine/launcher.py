"""How the decoder is given a step: where its sequences lie, and in which form it reads them."""

import numpy as np

from causalrn.model.draws import RowDraw
from causalrn.model.predictions import Predictions
from causalrn.model.state import DecoderState, RaggedBatch
from causalrn.server.engine.block_tables import BlockTables
from causalrn.server.engine.launched_step import LaunchedStep
from causalrn.server.engine.scheduler import Chunk
from causalrn.server.engine.sequence import Sequence
from causalrn.server.engine.served_model import ServedDecoder


class Launcher:
    """Gives chunks to a decoder, and takes back what was computed in vain.

    Args:
        decoder: of the model.
        state: storage of all sequences.
        tables: of their pages.
        n_kept: rows of the storage that belong to pages. Behind them is one for each slot, if
            anything may be computed in vain.
    """

    def __init__(
        self, decoder: ServedDecoder, state: DecoderState, tables: BlockTables, n_kept: int
    ) -> None:
        self._decoder = decoder
        self._state = state
        self._tables = tables
        self._before = state.row(n_kept)

    def extend(
        self,
        chunks: list[Chunk],
        rows: dict[str, range],
        draws: list[RowDraw],
        after: LaunchedStep | None = None,
    ) -> Predictions:
        """What comes after each of the wanted tokens.

        Args:
            chunks: to compute.
            rows: as many as tokens are wanted of each, by the id of its sequence.
            draws: to be made.
            after: the step that finds the tokens, if that is still under way.
        """
        wanted: list[int] = []
        end = 0
        for chunk in chunks:
            end += chunk.n_rows
            n = len(rows.get(chunk.sequence.id, ()))
            wanted += range(end - n, end)
            self._place(chunk.sequence)
            if chunk.draft:
                slot = chunk.sequence.slot
                assert slot is not None
                self._state.copy_state(slot, self._before + slot)
        if after is not None:
            self._state.copy_slots(self._before)
        rows_wanted = np.array(wanted, np.int64)
        return self._decoder.extend(self._ragged(chunks, after), self._state, rows_wanted, draws)

    def take_back(self, sequence: Sequence) -> None:
        """Let a sequence have the state again that it had before the step.

        What that has written into the pool lies behind the tokens that count, and is written over.
        """
        assert sequence.slot is not None
        self._state.copy_state(self._before + sequence.slot, sequence.slot)

    def clear(self, slot: int) -> None:
        """Forget where the sequence of a slot lies, as the slot has another one."""
        self._tables.clear(slot)

    def _place(self, sequence: Sequence) -> None:
        """Make a sequence's slot and its row of the block tables ready."""
        slot, pages = sequence.slot, sequence.pages
        assert slot is not None
        if not sequence.placed:
            if sequence.copied_page is not None:
                last = pages[(sequence.n_computed - 1) // self._state.page_size]
                self._state.copy_page(sequence.copied_page, last)
                sequence.copied_page = None
            if sequence.kept_row is None:
                self._state.reset_slot(slot)
            else:
                self._state.copy_state(self._state.row(sequence.kept_row), slot)
                sequence.kept_row = None
            sequence.placed = True
            self._tables.clear(slot)
        self._tables.extend(slot, pages)

    def _ragged(self, chunks: list[Chunk], after: LaunchedStep | None) -> RaggedBatch:
        token_ids: list[int] = []
        starts = [0]
        places = {} if after is None else after.places()
        for chunk in chunks:
            if places:
                token_ids.append(~places[chunk.sequence.id])
            elif chunk.n_tokens == 1:
                token_ids.append(chunk.sequence.token_ids[chunk.start])
            else:
                token_ids += chunk.sequence.token_ids[chunk.start : chunk.start + chunk.n_tokens]
            token_ids += chunk.draft
            starts.append(len(token_ids))
        slots = np.array([chunk.sequence.slot for chunk in chunks], np.int64)
        pages, rows = self._tables.of(slots, max(len(chunk.sequence.pages) for chunk in chunks))
        return RaggedBatch(
            token_ids=np.array(token_ids, np.int64),
            starts=np.array(starts, np.int64),
            context_lens=np.array([chunk.start for chunk in chunks], np.int64),
            slots=slots,
            block_tables=pages,
            state_tables=rows,
        )
