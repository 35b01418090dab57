"""Which sequences take part in the next step, and with how many tokens."""

from collections import deque
from dataclasses import dataclass

from server.block_allocator import BlockAllocator
from server.sequence import Sequence, Status


@dataclass(frozen=True)
class Chunk:
    """Tokens of one sequence that one step computes.

    Attributes:
        sequence: whose tokens.
        start: tokens that its pool holds before the step.
        n_tokens: tokens to compute, at least one.
        is_last: whether no known token is left after these, so that a new one is sampled.
    """

    sequence: Sequence
    start: int
    n_tokens: int
    is_last: bool


class Scheduler:
    """First come, first served, under one budget of tokens a step.

    A step computes one token of every sequence that is decoding, then chunks of prompts with what
    is left of the budget, so that a long prompt never stalls the others. A sequence is admitted
    when a slot is free and the pool has pages for all it may ever hold, so that it never has to
    stop halfway.

    Args:
        allocator: of the pool's pages.
        n_slots: sequences that may run at once.
        max_batch_tokens: budget of a step, at least `n_slots`.
    """

    def __init__(self, allocator: BlockAllocator, *, n_slots: int, max_batch_tokens: int) -> None:
        if not 1 <= n_slots <= max_batch_tokens:
            raise ValueError(
                f"max_batch_tokens ({max_batch_tokens}) must be at least the number of sequences "
                f"that run at once ({n_slots}), so that none of them ever waits for a step"
            )
        self.allocator = allocator
        self.n_slots = n_slots
        self.max_batch_tokens = max_batch_tokens
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self._free_slots = list(range(n_slots - 1, -1, -1))

    @property
    def n_free_slots(self) -> int:
        """Slots that no sequence has."""
        return len(self._free_slots)

    def fits(self, n_held: int) -> bool:
        """Whether a sequence that holds `n_held` tokens could run in an empty pool."""
        return self.allocator.pages_for(n_held) <= self.allocator.n_pages

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence.

        Raises:
            ValueError: it is not new, or could never run.
        """
        if sequence.status is not Status.WAITING or sequence.n_computed:
            raise ValueError(f"sequence {sequence.id} is not new")
        if not self.fits(sequence.max_held):
            raise ValueError(f"sequence {sequence.id} needs more pages than the pool has")
        self.waiting.append(sequence)

    def schedule(self) -> list[Chunk]:
        """Admit what fits and plan one step; empty when there is nothing to do.

        The caller computes the chunks, adds their `n_tokens` to `n_computed`, and appends the
        tokens that it samples.
        """
        budget = self.max_batch_tokens
        decoding = [sequence for sequence in self.running if sequence.n_uncomputed == 1]
        prefilling = [sequence for sequence in self.running if sequence.n_uncomputed > 1]
        chunks = []
        for sequence in decoding + prefilling:
            if budget:
                chunks.append(_chunk(sequence, budget))
                budget -= chunks[-1].n_tokens
        while budget and self.waiting and self._admit(self.waiting[0]):
            chunks.append(_chunk(self.waiting.popleft(), budget))
            budget -= chunks[-1].n_tokens
        return chunks

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out, whatever its state, and free all it has; idempotent."""
        if sequence.status is Status.WAITING and sequence in self.waiting:
            self.waiting.remove(sequence)
        elif sequence.status is Status.RUNNING:
            self.running.remove(sequence)
            self.allocator.free(sequence.pages)
            assert sequence.slot is not None
            self._free_slots.append(sequence.slot)
            sequence.pages, sequence.slot = [], None
        sequence.status = Status.FINISHED

    def _admit(self, sequence: Sequence) -> bool:
        n_pages = self.allocator.pages_for(sequence.max_held)
        if not self._free_slots or n_pages > self.allocator.n_free:
            return False
        sequence.pages = self.allocator.allocate(n_pages)
        sequence.slot = self._free_slots.pop()
        sequence.status = Status.RUNNING
        self.running.append(sequence)
        return True


def _chunk(sequence: Sequence, budget: int) -> Chunk:
    n_tokens = min(sequence.n_uncomputed, budget)
    return Chunk(sequence, sequence.n_computed, n_tokens, n_tokens == sequence.n_uncomputed)
