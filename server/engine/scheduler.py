"""Which sequences take part in the next step, and with how many tokens."""

from bisect import insort
from collections.abc import Sequence as Items
from functools import partial
from typing import NamedTuple

from causalrn.server.engine.pool import Pool
from causalrn.server.engine.sequence import Sequence, Status
from causalrn.server.engine.warm_sessions import PoolUse, WarmSession

_LEAST_TOKENS = 32  # for each prompt, that fit into a step beside however few decoding sequences


class Chunk(NamedTuple):
    """Tokens of one sequence that one step computes.

    Attributes:
        sequence: the sequence.
        start: tokens of it that the pool holds before the step.
        n_tokens: known tokens to compute, at least one.
        is_last: whether no known token is left after these, so that a new one can be sampled.
        draft: tokens that may come next, to be computed as well, and verified by what is sampled.
    """

    sequence: Sequence
    start: int
    n_tokens: int
    is_last: bool
    draft: Items[int] = ()

    @property
    def n_rows(self) -> int:
        """Tokens to compute, those of the draft included."""
        return self.n_tokens + len(self.draft)


class Scheduler:
    """Sequences in the order of their ranks, under one budget a step.

    A step computes one token of every sequence that is decoding and, with what is left of the
    budget, chunks of prompts. The cost of a token grows with its context, so the budget has two
    bounds: tokens, and work in proportion to that of the decoding sequences, so that a long prompt
    slows them down by a known factor and never stalls them. Where several prompts are to be read,
    each adds to the work, up to that of a whole step of tokens without context: they are read one
    after the other, and the last of them would otherwise wait for many small steps.

    Pages are taken as they are needed. When there are none left, the running sequence whose rank is
    last gives its own back and waits for them; it is computed again later, its tokens stay as they
    are. Sequences that begin with the same tokens share the full pages of that beginning. The
    memory of idle sessions is given up before a running sequence loses anything.

    Args:
        pool: where the pages come from.
        n_slots: sequences that may run at once.
        max_batch_tokens: budget of a step, at least `n_slots`.
        token_pairs: pairs of tokens whose relation costs as much as a token's matrix products.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        n_slots: int,
        max_batch_tokens: int,
        token_pairs: float = 64.0,
    ) -> None:
        if not 1 <= n_slots <= max_batch_tokens:
            raise ValueError(
                f"max_batch_tokens ({max_batch_tokens}) must be at least the number of sequences "
                f"that run at once ({n_slots}), so that none of them ever waits for a step"
            )
        self.pool = pool
        self.n_slots = n_slots
        self.max_batch_tokens = max_batch_tokens
        self.token_pairs = token_pairs
        self.waiting: list[Sequence] = []  # both in the order of ranks
        self.running: list[Sequence] = []
        self.n_preemptions = self.n_drafted = self.n_accepted = 0
        self._free_slots = list(range(n_slots - 1, -1, -1))

    @property
    def n_free_slots(self) -> int:
        """Slots that no sequence has."""
        return len(self._free_slots)

    def fits(self, n_held: int) -> bool:
        """Whether a sequence that holds `n_held` tokens could run in an empty pool."""
        return self.pool.allocator.pages_for(n_held) <= self.pool.allocator.n_pages

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence.

        Raises:
            ValueError: it is not new, or could never run.
        """
        if sequence.status is not Status.WAITING or sequence.n_computed:
            raise ValueError(f"sequence {sequence.id} is not new")
        if not self.fits(sequence.max_held):
            raise ValueError(f"sequence {sequence.id} needs more pages than the pool has")
        insort(self.waiting, sequence, key=_rank)

    def schedule(self) -> list[Chunk]:
        """Plan one step; empty when there is nothing to do.

        The caller makes ready the slots of sequences that are not `placed`, computes the chunks,
        calls `computed`, and appends the tokens that it samples.
        """
        n_preemptions = self.n_preemptions
        n_decoding = 0
        tokens, work = self.max_batch_tokens, 0.0
        for sequence in self.running:
            n_tokens = sequence.n_uncomputed
            if n_tokens == 1 + sequence.n_again:
                n_decoding += 1
                tokens -= n_tokens
                work += self._cost(sequence.n_computed, n_tokens)
        n_reading = len(self.running) - n_decoding
        work = max(self._least_work(n_reading), work) if n_decoding else float("inf")
        chunks = []
        index = 0
        while index < len(self.running):  # which shrinks from its end when pages run out
            sequence = self.running[index]
            index += 1
            n_known = n_tokens = sequence.n_uncomputed
            is_decoding = n_known == 1 + sequence.n_again
            if not is_decoding:
                n_tokens = self._affordable(sequence, tokens, work)
                if not n_tokens:
                    continue
            if not self._reserve(sequence, n_tokens):
                break  # it was the last of the running ones, and had to go
            chunks.append(Chunk(sequence, sequence.n_computed, n_tokens, n_tokens == n_known))
            if not is_decoding:
                tokens -= n_tokens
                work -= self._cost(sequence.n_computed, n_tokens)
        while self.waiting and self.n_preemptions == n_preemptions:
            sequence = self.waiting[0]
            if self._is_spent(tokens, work) or not self._admit(sequence):
                break
            n_tokens = max(1, self._affordable(sequence, tokens, work))
            self._reserve(sequence, n_tokens)
            is_last = n_tokens == sequence.n_uncomputed
            chunks.append(Chunk(sequence, sequence.n_computed, n_tokens, is_last))
            tokens -= n_tokens
            work -= self._cost(sequence.n_computed, n_tokens)
        # Beside prompts there are no drafts: what is left is for the next prompt.
        if tokens > 0 and n_decoding == len(self.running):
            self._add_drafts(chunks, tokens)
        return chunks

    def schedule_ahead(self, chunks: list[Chunk]) -> list[Chunk]:
        """Plan the step after one that is under way, as if no sequence of it ended unforeseen.

        Such a step computes the tokens that the one under way will find. It takes no pages that
        have users, and lets nobody wait: there is none while prompts are read or could be by then,
        or guesses made.

        Args:
            chunks: of the step under way.

        Returns:
            Its chunks; nothing if there is to be none before the results of the other are known.
        """
        if len(chunks) < len(self.running):
            return []
        size = self.pool.allocator.page_size
        ahead: list[Chunk] = []
        full: list[Sequence] = []
        for chunk in chunks:
            sequence = chunk.sequence
            may_guess = sequence.drafter is not None and not sequence.drafter.pauses
            if chunk.n_rows > 1 or not chunk.is_last or may_guess:
                return []
            if sequence.n_left > 1:
                ahead.append(Chunk(sequence, chunk.start + 1, 1, is_last=True))
                if chunk.start + 1 == len(sequence.pages) * size:
                    full.append(sequence)
        may_admit = self._free_slots or len(ahead) < len(chunks)
        if (self.waiting and may_admit) or len(full) > self.pool.allocator.n_free:
            return []
        for sequence in full:
            self._add_pages(sequence, 1)
        for chunk in ahead:
            if chunk.sequence.drafter is not None:
                chunk.sequence.drafter.is_ready()  # which counts the steps of its pause
        return ahead

    def computed(self, chunk: Chunk, n_right: int = 0) -> None:
        """Note that the pool now holds a chunk's tokens.

        Args:
            chunk: that was computed.
            n_right: tokens of its draft that were right, and are known by now.
        """
        chunk.sequence.n_computed += chunk.n_tokens + n_right
        chunk.sequence.n_again = 0
        if not chunk.sequence.private:
            self.pool.cache.add(chunk.sequence)

    def verified(self, chunk: Chunk, n_right: int) -> None:
        """Note how many tokens of a chunk's draft were right."""
        self.n_drafted += len(chunk.draft)
        self.n_accepted += n_right

    def session_use(self, id: str) -> PoolUse:
        """How much the pool holds of a session, whether it is idle or a turn of it runs."""
        for sequence in self.running:
            if sequence.session == id:
                return self.pool.sessions.count(sequence.n_computed, sequence.pages)
        return self.pool.sessions.use(id)

    def fork(self, origin: Sequence, sequence: Sequence) -> tuple[int, int] | None:
        """Let a new sequence go on from where a running one of the same tokens is.

        Full pages are shared. Without a slot or a page to spare it is queued, and finds them later.

        Args:
            origin: a running sequence.
            sequence: a new one with the same known tokens, not yet added.

        Returns:
            The page to copy and the page to copy it into, which are one if there is nothing to
            copy; None if the sequence was queued. The caller makes this copy, and that of the
            slot's state.
        """
        size = self.pool.allocator.page_size
        n_full = origin.n_computed // size
        if not self._free_slots or not self.pool.make_room(1):
            self.add(sequence)
            return None
        shared = origin.pages[:n_full]
        self.pool.allocator.share(shared)
        sequence.pages = shared
        self._add_pages(sequence, 1)
        sequence.n_computed = sequence.n_cached = origin.n_computed
        sequence.n_chained, sequence.link = min(origin.n_chained, n_full), origin.link
        sequence.placed = True
        self._run(sequence)
        copy = sequence.pages[-1]
        return origin.pages[n_full] if n_full < len(origin.pages) else copy, copy

    def park(self, sequence: Sequence) -> int | None:
        """Leave a running sequence's memory to its session, at the end of a turn.

        Without an answer, the session keeps what it had before the turn. If that was lost, or never
        in the pool, it gets what lies before the turn up to the last row there.

        The caller takes the sequence out next.

        Returns:
            The row to which the caller copies the state of the sequence's slot. None if there is
            nothing to copy, or no row left for it; then the session keeps only what lies before the
            last row that it has.
        """
        size = self.pool.allocator.page_size
        if sequence.goes_back_to is not None:
            assert sequence.session is not None
            if self.pool.sessions.get(sequence.session) is None:
                self._park_before(sequence, sequence.goes_back_to)
            return None
        last = sequence.pages[(sequence.n_computed - 1) // size]
        if self.pool.keep_state(last, at_any_price=True):
            self.pool.sessions.park(sequence, sequence.n_computed)
            return self.pool.states.row(last)
        self._park_before(sequence, sequence.n_computed)
        return None

    def forget(self, sequence: Sequence) -> None:
        """Give up what a sequence's session has in the pool, as it may be wrong."""
        if sequence.session is not None:
            self.pool.sessions.drop(sequence.session)

    def preempt(self, sequence: Sequence) -> None:
        """Take its memory from a running sequence, which waits and computes all tokens again."""
        self._stop(sequence)
        sequence.status = Status.WAITING
        sequence.n_computed = sequence.n_cached = sequence.n_chained = sequence.link = 0
        sequence.n_again = 0
        sequence.private = False
        insort(self.waiting, sequence, key=_rank)
        self.n_preemptions += 1

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out, whatever its state, and free all it has; idempotent."""
        if sequence.status is Status.WAITING and sequence in self.waiting:
            self.waiting.remove(sequence)
        elif sequence.status is Status.RUNNING:
            self._stop(sequence)
        sequence.status = Status.FINISHED

    def _add_drafts(self, chunks: list[Chunk], tokens: int) -> None:
        """Give the sequences of which something may be guessed even shares of what a step has left.

        Args:
            chunks: of sequences that are all decoding, changed in place.
            tokens: that are left.
        """
        size = self.pool.allocator.page_size
        ready = [
            number
            for number, chunk in enumerate(chunks)
            if (drafter := chunk.sequence.drafter) is not None and drafter.is_ready()
        ]
        for n_before, number in enumerate(ready):
            chunk = chunks[number]
            sequence = chunk.sequence
            if not sequence.n_generated:
                continue  # samples part at the end of the prompt
            assert sequence.drafter is not None
            room = min(tokens // (len(ready) - n_before), sequence.n_left - 1)
            draft = sequence.drafter.propose(room)
            if not draft:
                continue
            n_held = chunk.start + chunk.n_tokens
            wanted = self.pool.allocator.pages_for(n_held + len(draft)) - len(sequence.pages)
            if wanted > 0 and self.pool.allocator.n_free < wanted:
                draft = draft[: len(sequence.pages) * size - n_held]
            elif wanted > 0:
                self._add_pages(sequence, wanted)
            tokens -= len(draft)
            chunks[number] = chunk._replace(draft=draft)

    def _least_work(self, n_reading: int) -> float:
        """Work that prompts may make beside however few decoding sequences, in pairs.

        Args:
            n_reading: running sequences whose prompts are not computed yet.
        """
        n_prompts = n_reading + min(len(self.waiting), self.n_free_slots)
        most = max(_LEAST_TOKENS, self.max_batch_tokens)
        return self._cost(0, min(n_prompts * _LEAST_TOKENS, most))

    def _cost(self, context: int, n_tokens: int) -> float:
        """Work of some tokens, in pairs."""
        return n_tokens * (context + n_tokens / 2 + self.token_pairs)

    def _is_spent(self, tokens: int, work: float) -> bool:
        """Whether too little is left of the budget to begin another chunk."""
        return tokens < 1 or work < self._cost(0, 1)

    def _affordable(self, sequence: Sequence, tokens: int, work: float) -> int:
        """Tokens of a sequence that fit into a budget; at least one if there is any budget left."""
        if self._is_spent(tokens, work):
            return 0
        n_tokens = min(sequence.n_uncomputed, tokens)
        if self._cost(sequence.n_computed, n_tokens) > work:
            base = sequence.n_computed + self.token_pairs  # n·base + n²/2 = work
            n_tokens = max(1, int((base**2 + 2 * work) ** 0.5 - base))
        return n_tokens

    def _admit(self, sequence: Sequence) -> bool:
        """Let a waiting sequence run if there are pages for all its known tokens."""
        if not self._free_slots:
            return False
        warm = None
        if sequence.session is not None:
            warm = self.pool.sessions.match(sequence.session, sequence.token_ids)
        if not (self._begin(sequence) if warm is None else self._resume(sequence, warm)):
            return False
        self.waiting.remove(sequence)
        sequence.n_cached = min(sequence.n_computed, sequence.n_prompt)
        self._run(sequence)
        return True

    def _begin(self, sequence: Sequence) -> bool:
        """Give a sequence the cached pages of its beginning, if there is room for the rest."""
        pages: list[int] = []
        link = 0
        if sequence.reusable:
            pages, link = self.pool.cache.find(sequence.token_ids, sequence.owner)
        self.pool.allocator.share(pages)
        n_known = len(sequence.token_ids)
        if not self.pool.make_room(self.pool.allocator.pages_for(n_known) - len(pages)):
            self.pool.allocator.free(pages)
            return False
        sequence.pages = pages
        sequence.n_computed = len(pages) * self.pool.allocator.page_size
        sequence.n_chained, sequence.link = len(pages), link
        sequence.kept_row = self.pool.states.row(pages[-1]) if pages else None
        self.pool.cache.count(n_known, sequence.n_computed)
        return True

    def _resume(self, sequence: Sequence, warm: WarmSession) -> bool:
        """Give a sequence the pages of its session, if there is room for the rest.

        A last page that is not full and that others have, too, has to be copied before more can be
        written into it. If there may be no answer, the session itself is one of these others, as
        long as there is room for that.
        """
        assert sequence.session is not None
        wanted = self.pool.allocator.pages_for(len(sequence.token_ids)) - len(warm.pages)
        last = warm.pages[-1]
        is_open = len(warm.token_ids) % self.pool.allocator.page_size > 0
        make_room = partial(self.pool.make_room, spare=(sequence.session,))
        if sequence.goes_back_to is not None and make_room(wanted + is_open):
            self.pool.sessions.share(sequence.session)
        else:
            if is_open and self.pool.allocator.n_users(last) > 1:
                wanted += 1
            if not make_room(wanted):
                return False
            self.pool.sessions.release(sequence.session)
        sequence.pages = list(warm.pages)
        sequence.n_computed = len(warm.token_ids)
        sequence.n_chained, sequence.link = warm.n_chained, warm.link
        sequence.private = warm.private
        # Noted now: making room for others in the same step may cost `last` its row, though not yet
        # what lies in it.
        sequence.kept_row = self.pool.states.row(last)
        if is_open and self.pool.allocator.n_users(last) > 1:  # making room may have left it alone
            del sequence.pages[-1]
            self._add_pages(sequence, 1)
            sequence.copied_page = last
            self.pool.allocator.free([last])
        return True

    def _park_before(self, sequence: Sequence, n_tokens: int) -> None:
        """Leave to a session what lies before the last row in some tokens of a sequence."""
        size = self.pool.allocator.page_size
        n_full = min(n_tokens, sequence.n_computed) // size
        kept = [n for n in range(n_full) if sequence.pages[n] in self.pool.states]
        if kept:
            self.pool.sessions.park(sequence, (kept[-1] + 1) * size)

    def _run(self, sequence: Sequence) -> None:
        sequence.slot = self._free_slots.pop()
        sequence.status = Status.RUNNING
        insort(self.running, sequence, key=_rank)

    def _stop(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self.pool.allocator.free(sequence.pages)
        assert sequence.slot is not None
        self._free_slots.append(sequence.slot)
        sequence.pages, sequence.slot, sequence.placed = [], None, False
        sequence.copied_page = sequence.kept_row = None

    def _add_pages(self, sequence: Sequence, n: int) -> None:
        """Give a sequence pages for which there is room, and rows to those that are to have one."""
        size = self.pool.allocator.page_size
        ends = {sequence.n_prompt // size, (sequence.goes_back_to or 0) // size}
        for page in self.pool.take(n):
            if self.pool.states.is_boundary(len(sequence.pages), ends):
                self.pool.keep_state(page)
            sequence.pages.append(page)

    def _reserve(self, sequence: Sequence, n_tokens: int) -> bool:
        """Give a sequence pages for `n_tokens` more, if need be those of sequences of later ranks.

        Returns:
            False if the sequence itself was the last, and had to give up its own pages.
        """
        allocator = self.pool.allocator
        n_held = sequence.n_computed + n_tokens
        if n_held <= len(sequence.pages) * allocator.page_size:
            return True
        wanted = allocator.pages_for(n_held) - len(sequence.pages)
        while not self.pool.make_room(wanted):
            last = self.running[-1]
            self.preempt(last)
            if last is sequence:
                return False
        self._add_pages(sequence, wanted)
        return True


def _rank(sequence: Sequence) -> tuple[float, int]:
    return sequence.rank
