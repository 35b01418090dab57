"""One step: schedule, extend, sample. Owned by one thread; knows nothing of threads."""

import logging

import numpy as np
from numpy.typing import NDArray

from model.state import DecoderState, RaggedBatch
from server.block_allocator import BlockAllocator
from server.errors import ApiError, EngineError, StartupError
from server.generation import Generation
from server.scheduler import Chunk, Scheduler
from server.sequence import Sequence
from server.served_model import ServedModel
from server.settings import Settings
from server.token_stream import Delta

logger = logging.getLogger(__name__)

Outcome = tuple[str, Delta | ApiError]
"""What a step made of one generation: its id, and a delta or the error that ended it."""


class EngineCore:
    """All live generations, the storage that they share, and the step that moves them.

    Args:
        model: to run.
        settings: with the size of the pool and the budget of a step.

    Raises:
        StartupError: the pool is too small to hold anything.
    """

    def __init__(self, model: ServedModel, settings: Settings) -> None:
        self._decoder = model.decoder
        self._state = _allocate_state(model, settings)
        self.allocator = BlockAllocator(self._state.n_pages, self._state.page_size)
        self.scheduler = Scheduler(
            self.allocator,
            n_slots=settings.max_running,
            max_batch_tokens=settings.max_batch_tokens,
        )
        self._generations: dict[str, Generation] = {}

    @property
    def n_live(self) -> int:
        """Generations that wait or run."""
        return len(self._generations)

    def warm_up(self, token_id: int) -> None:
        """Run the model once, so that the first request does not wait for its compilation."""
        sequence = Sequence("warm-up", [token_id] * 3, 1, pages=[0], slot=0)
        self._extend([Chunk(sequence, start=0, n_tokens=2, is_last=False)])
        self._extend([Chunk(sequence, start=2, n_tokens=1, is_last=True)])

    def add(self, generation: Generation) -> None:
        """Queue a generation."""
        self.scheduler.add(generation.sequence)
        self._generations[generation.sequence.id] = generation

    def abort(self, id: str) -> None:
        """End a generation, whatever its state, and free all it has; unknown ids are fine."""
        if id in self._generations:
            self._end(id, "abort")

    def step(self) -> list[Outcome]:
        """Move every sequence that the budget reaches; empty when there was nothing to do.

        A failure of the model fails the sequences of this step and no others.
        """
        chunks = self.scheduler.schedule()
        if not chunks:
            return []
        try:
            logits = self._extend(chunks)
        except Exception:
            logger.exception(
                "a step of %d tokens of %d sequences failed: %s",
                sum(chunk.n_tokens for chunk in chunks),
                len(chunks),
                ", ".join(chunk.sequence.id for chunk in chunks),
            )
            return [self._fail(chunk.sequence.id) for chunk in chunks]
        for chunk in chunks:
            chunk.sequence.n_computed += chunk.n_tokens
        return [
            self._advance(chunk.sequence.id, row)
            for chunk, row in zip(chunks, logits, strict=True)
            if chunk.is_last
        ]

    def _extend(self, chunks: list[Chunk]) -> NDArray[np.float32]:
        """Logits `[S, V]` after each chunk's last token."""
        for chunk in chunks:
            if chunk.start == 0:
                assert chunk.sequence.slot is not None
                self._state.reset_slot(chunk.sequence.slot)
        logits: NDArray[np.float32] = (
            self._decoder.extend(_ragged(chunks), self._state).cpu().numpy()
        )
        return logits

    def _advance(self, id: str, logits: NDArray[np.float32]) -> Outcome:
        try:
            delta = self._generations[id].advance(logits)
        except Exception:
            logger.exception("sampling for %s failed", id)
            return self._fail(id)
        if delta.finish_reason is not None:
            self._end(id, delta.finish_reason)
        return id, delta

    def _fail(self, id: str) -> Outcome:
        self._end(id, "error")
        return id, EngineError("the engine failed while it worked on this request; try again")

    def _end(self, id: str, finish_reason: str) -> None:
        generation = self._generations.pop(id)
        self.scheduler.remove(generation.sequence)
        generation.log_end(finish_reason)


def _ragged(chunks: list[Chunk]) -> RaggedBatch:
    sequences = [chunk.sequence for chunk in chunks]
    tables = np.zeros((len(chunks), max(len(s.pages) for s in sequences)), np.int32)
    for row, sequence in zip(tables, sequences, strict=True):
        row[: len(sequence.pages)] = sequence.pages
    return RaggedBatch(
        token_ids=np.concatenate(
            [
                np.array(c.sequence.token_ids[c.start : c.start + c.n_tokens], np.int64)
                for c in chunks
            ]
        ),
        starts=np.cumsum([0, *(chunk.n_tokens for chunk in chunks)], dtype=np.int64),
        context_lens=np.array([chunk.start for chunk in chunks], np.int64),
        slots=np.array([sequence.slot for sequence in sequences], np.int64),
        block_tables=tables,
    )


def _allocate_state(model: ServedModel, settings: Settings) -> DecoderState:
    """Storage of at most `pool_bytes`, and of no more than `max_running` sequences can use."""
    page_size, n_slots = settings.page_size, settings.max_running
    probe = model.decoder.new_state(n_pages=1, page_size=page_size, n_slots=1)
    n_pages = n_slots * -(-model.config.max_seq_len // page_size)
    if probe.bytes_per_page:
        left = settings.pool_bytes - n_slots * probe.bytes_per_slot
        n_pages = min(n_pages, left // probe.bytes_per_page)
    if n_pages < 1:
        raise StartupError(
            f"CAUSALRN_POOL_BYTES is {settings.pool_bytes}, but the states of {n_slots} sequences "
            f"take {n_slots * probe.bytes_per_slot} and a page of the pool "
            f"{probe.bytes_per_page}; raise it or lower CAUSALRN_MAX_RUNNING"
        )
    return model.decoder.new_state(n_pages=n_pages, page_size=page_size, n_slots=n_slots)
