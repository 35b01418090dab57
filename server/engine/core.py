"""One step: schedule, extend, sample. Owned by one thread; knows nothing of threads."""

import logging
import time
from dataclasses import dataclass
from functools import partial

from causalrn.model.device import DeviceError
from causalrn.model.draws import RowDraw
from causalrn.model.state import LayerSpec
from causalrn.server.engine.block_tables import BlockTables
from causalrn.server.engine.deltas import Delta, Outcome
from causalrn.server.engine.generation import Generation, Logits
from causalrn.server.engine.launched_step import LaunchedStep
from causalrn.server.engine.launcher import Launcher
from causalrn.server.engine.pool import Pool
from causalrn.server.engine.pooled_sessions import PooledSessions
from causalrn.server.engine.scheduler import Chunk, Scheduler
from causalrn.server.engine.sequence import Sequence
from causalrn.server.engine.served_model import ServedDecoder, ServedModel
from causalrn.server.engine.storage import (
    allocate,
    bytes_per_page,
    kept_row,
    n_states_before,
    state_every,
)
from causalrn.server.errors import EngineError
from causalrn.server.settings import Settings

logger = logging.getLogger(__name__)

_PAIRS_ARE_FREE = 1e9  # more than any sequence has, so that a token costs the same anywhere in it
_PRODUCTS_AN_EXPONENTIAL = 16  # multiply-adds of a matrix product in the time of one exponential


@dataclass
class StepTimes:
    """Seconds that all steps so far have spent on each kind of work."""

    scheduling: float = 0.0
    model: float = 0.0
    sampling: float = 0.0


@dataclass(frozen=True)
class _Verified:
    """What became of a draft.

    Attributes:
        sample: that it was for.
        chunk: in which it was computed.
        n_right: how many of its tokens are what was sampled, and were needed.
        delta: all that was sampled.
    """

    sample: Generation
    chunk: Chunk
    n_right: int
    delta: Delta


class EngineCore:
    """All live generations, the storage that they share, and the step that moves them.

    Args:
        model: to run.
        settings: the size of the pool and the budget of a step, among others.

    Raises:
        StartupError: the pool is too small to hold anything.

    Attributes:
        n_steps, n_tokens: steps made, and tokens that they computed.
        last_step_tokens: tokens of the last step.
        pool, scheduler: what the sequences occupy, and which of them take part in a step.
        sessions: what idle sessions have in the pool.
        times: how long the steps took, by kind of work.
    """

    def __init__(self, model: ServedModel, settings: Settings) -> None:
        self._decoder = model.decoder
        self._state = allocate(model, settings)
        self.pool = Pool(
            self._state.n_pages,
            self._state.page_size,
            n_rows=self._state.n_rows
            - n_states_before(model, settings.max_running, settings.n_drafting),
            state_every=state_every(self._state),
        )
        self.scheduler = Scheduler(
            self.pool,
            n_slots=settings.max_running,
            max_batch_tokens=settings.max_batch_tokens,
            token_pairs=_token_pairs(model.decoder),
        )
        self.n_steps = self.n_tokens = self.last_step_tokens = 0
        self.times = StepTimes()
        self._samples: dict[str, Generation] = {}
        self._requests: dict[str, set[str]] = {}
        row_of = partial(kept_row, self._state, self.pool.states)
        self.sessions = PooledSessions(self._state, self.scheduler, row_of)
        self._max_seq_len = model.config.max_seq_len
        self._borders = {model.config.bos_id, model.config.sep_id}
        self._under_way: LaunchedStep | None = None
        longest = self.pool.allocator.pages_for(self._max_seq_len)
        tables = BlockTables(settings.max_running, longest, row_of)
        self._launcher = Launcher(model.decoder, self._state, tables, self.pool.n_rows)

    @property
    def bytes_per_page(self) -> int:
        """Bytes of one page in all layers, and of its share of the kept states."""
        return bytes_per_page(self._state)

    @property
    def tensor_bytes(self) -> dict[tuple[int, str], int]:
        """Memory of every tensor, by the number of its layer and its name."""
        return self._state.tensor_bytes()

    @property
    def layers(self) -> list[LayerSpec]:
        """What each layer keeps of a sequence."""
        return self._state.specs

    @property
    def n_live(self) -> int:
        """Requests that wait or run."""
        return len(self._requests)

    def warm_up(self, token_id: int) -> None:
        """Run the model once, so that the first request does not wait for its compilation."""
        # What drafts leave to compute again comes on top of what a step may have. The forms for
        # little work are compiled at the same time.
        for n_rows in (2 * self.scheduler.max_batch_tokens, 3):
            allocator = self.pool.allocator
            n_rows = min(n_rows, self._max_seq_len, allocator.n_pages * allocator.page_size)
            pages = list(range(allocator.pages_for(n_rows)))
            sequence = Sequence("warm-up", [token_id] * n_rows, 1, pages=pages, slot=0)
            rows = {sequence.id: range(n_rows)}
            chunk = Chunk(sequence, start=0, n_tokens=n_rows, is_last=True)
            self._launcher.extend([chunk], rows, []).bring()  # and wait for it
            self._launcher.clear(0)
        self._decoder.prepare(self._state)

    def add(self, generation: Generation) -> None:
        """Queue the first sample of a request; the others follow once its prompt is computed."""
        self.scheduler.add(generation.sequence)
        self._start(generation)

    def abort(self, request_id: str) -> None:
        """End all samples of a request, whatever their state, and free all that they have.

        Does nothing for a request that is over or unknown.
        """
        for id in list(self._requests.get(request_id, ())):
            self._end(self._samples[id])

    def forget(self, request_id: str) -> None:
        """As `abort`, but give up the memory of the request's session, too, as it may be wrong."""
        for id in list(self._requests.get(request_id, ())):
            self._end(self._samples[id], park=False)

    def step(self) -> list[Outcome]:
        """Compute and sample one step, for every sequence that fits into its budget.

        If the decoder runs ahead, the next step may be given to it before this one is waited for. A
        failure of the model fails the requests of this step and no others.

        Returns:
            What was made of the requests; nothing if there was nothing to do.
        """
        self.last_step_tokens = 0
        step = self._under_way
        chunks = self._schedule() if step is None else step.chunks
        if not chunks:
            return []
        try:
            step = step or self._launch(chunks)
            self._under_way = self._launch_ahead(step)
            began = time.perf_counter()
            step.wait()
            self.times.model += time.perf_counter() - began
        except DeviceError:
            raise  # no further step would be any better
        except Exception:
            self._under_way = None
            logger.exception(
                "a step of %d tokens of %d sequences failed: %s",
                sum(chunk.n_rows for chunk in chunks),
                len(chunks),
                ", ".join(chunk.sequence.id for chunk in chunks),
            )
            ids = {self._samples[chunk.sequence.id].request_id for chunk in chunks}
            return [self._fail(id) for id in sorted(ids)]
        return self._collect(step)

    def _schedule(self) -> list[Chunk]:
        """Plan a step, and note what begins with it, and how much of that was cached."""
        began = time.perf_counter()
        chunks = self.scheduler.schedule()
        now = time.monotonic()
        for chunk in chunks:
            progress = self._samples[chunk.sequence.id].progress
            if progress.scheduled is None:
                progress.scheduled = now
                progress.n_cached = chunk.sequence.n_cached
        self.times.scheduling += time.perf_counter() - began
        return chunks

    def _launch(self, chunks: list[Chunk], after: LaunchedStep | None = None) -> LaunchedStep:
        """Give a step to the decoder.

        Args:
            chunks: of the step.
            after: the step that finds its tokens, if that is still under way.
        """
        began = time.perf_counter()
        rows = self._wanted_rows(chunks)
        drawing, draws = self._draws(chunks, rows, is_ahead=after is not None)
        predictions = self._launcher.extend(chunks, rows, draws, after)
        self.times.model += time.perf_counter() - began
        return LaunchedStep(chunks, rows, drawing, predictions)

    def _launch_ahead(self, step: LaunchedStep) -> LaunchedStep | None:
        """Give the step after one that is under way to the decoder, if that can be done by now.

        States are kept as they are before it: it is in vain for sequences that end with the other.
        """
        if not self._decoder.runs_ahead:
            return None
        began = time.perf_counter()
        is_foreseen = all(self._samples[one.sequence.id].is_foreseen for one in step.chunks)
        chunks = self.scheduler.schedule_ahead(step.chunks) if is_foreseen else []
        self.times.scheduling += time.perf_counter() - began
        if not chunks:
            return None
        ahead = self._launch(chunks, step)
        step.is_followed = True
        return ahead

    def _withdraw(self, sequence: Sequence) -> None:
        """See to it that nothing is left of what the step under way computes of a sequence."""
        if self._under_way is None or not self._under_way.withdraw(sequence):
            return
        if not self._under_way.chunks:
            self._under_way = None
        self._launcher.take_back(sequence)

    def _collect(self, step: LaunchedStep) -> list[Outcome]:
        """Note that a step is computed, and sample from what it predicts."""
        began = time.perf_counter()
        for chunk in step.chunks:
            if not chunk.draft:  # else nobody knows yet how much of it was right
                self.scheduler.computed(chunk)
        outcomes = self._sample(step)
        self.n_steps += 1
        self.last_step_tokens = step.n_tokens
        self.n_tokens += self.last_step_tokens
        self.times.sampling += time.perf_counter() - began
        return outcomes

    def _wanted_rows(self, chunks: list[Chunk]) -> dict[str, range]:
        """Rows of the step's logits that each chunk gets, by the id of its sequence."""
        rows = {}
        n_rows = 0
        for chunk in chunks:
            sample = self._samples[chunk.sequence.id]
            n = chunk.is_last + len(chunk.draft)
            if sample.reads_prompt and chunk.start < chunk.sequence.n_prompt:
                n = chunk.n_tokens
            rows[chunk.sequence.id] = range(n_rows, n_rows + n)
            n_rows += n
        return rows

    def _draws(
        self, chunks: list[Chunk], rows: dict[str, range], *, is_ahead: bool
    ) -> tuple[list[str], list[RowDraw]]:
        """What the decoder is to choose, if it does so: each draw, and whose sequence it is for."""
        ids: list[str] = []
        draws: list[RowDraw] = []
        if self._decoder.samples:
            for chunk in chunks:
                if not chunk.is_last:
                    continue
                sample = self._samples[chunk.sequence.id]
                first = rows[chunk.sequence.id].stop - 1 - len(chunk.draft)
                for one in (sample, *sample.others):
                    made = one.draw_ahead() if is_ahead else one.draws(chunk.draft)
                    own = [RowDraw(*pair) for pair in enumerate(made, first)]
                    ids += [one.sequence.id] * len(own)
                    draws += own
        return ids, draws

    def _sample(self, step: LaunchedStep) -> list[Outcome]:
        logits, chosen = step.logits, step.chosen()
        likeliest: list[int] = step.predictions.likeliest.tolist()
        outcomes: list[Outcome] = []
        verified: list[_Verified] = []
        for chunk in step.chunks:
            sample = self._samples.get(chunk.sequence.id)
            where = step.rows[chunk.sequence.id]
            if sample is None or not where:
                continue  # its request failed just now, or its prompt is not computed yet
            if chunk.sequence.private and min(likeliest[where.start : where.stop]) < 0:
                self._recompute(sample)
                continue
            try:
                if chunk.draft:
                    own = slice(where.start, where.stop)
                    n_right, delta = sample.verify(
                        chunk.draft, partial(logits, own), likeliest[own],
                        chosen.get(chunk.sequence.id, ()),
                    )  # fmt: skip
                    assert chunk.sequence.drafter is not None
                    chunk.sequence.drafter.judge(len(chunk.draft), n_right)
                    verified.append(_Verified(sample, chunk, n_right, delta))
                    continue
                if len(where) > 1 or not chunk.is_last:
                    sample.read(chunk.start, logits(slice(where.start, where.stop)))
                if chunk.is_last:
                    row = where.stop - 1
                    outcomes += self._advance(sample, partial(logits, row), likeliest[row], chosen)
                    if chunk.sequence.drafter is not None:
                        chunk.sequence.drafter.judge(0, 0)
            except DeviceError:
                raise
            except Exception:
                logger.exception("sampling for %s failed", sample.request_id)
                outcomes.append(self._fail(sample.request_id))
        return outcomes + self._settle(verified) if verified else outcomes

    def _settle(self, verified: "list[_Verified]") -> list[Outcome]:
        """Leave sequences as if only what was right of their drafts had been computed.

        What was right beside something wrong has to be computed again: with the next step, or now
        if there is none, since the session keeps it.
        """
        again = []
        # Those of requests that failed meanwhile have nothing left to settle.
        verified = [one for one in verified if one.sample.sequence.id in self._samples]
        for one in verified:
            sequence, n_known = one.chunk.sequence, one.chunk.n_tokens + one.n_right
            if one.n_right < len(one.chunk.draft):
                self._launcher.take_back(sequence)
                if one.delta.finish_reason is None:
                    sequence.n_again = n_known
                else:
                    again.append(Chunk(sequence, one.chunk.start, n_known, is_last=False))
            self.scheduler.verified(one.chunk, one.n_right)
        lost: set[str] = set()
        if again:
            try:
                self._launcher.extend(again, {}, [])
            except DeviceError:
                raise
            except Exception:
                lost = {chunk.sequence.id for chunk in again}
                logger.exception(
                    "a step to end with, of %d sequences, failed: %s",
                    len(again),
                    ", ".join(sorted(lost)),
                )
        outcomes: list[Outcome] = []
        for one in verified:
            sample = one.sample
            if sample.sequence.id not in self._samples:
                continue  # its request failed just now
            if sample.sequence.id in lost:
                outcomes.append(self._fail(sample.request_id))
                continue
            is_over = one.delta.finish_reason is not None
            if is_over or one.n_right == len(one.chunk.draft):
                self.scheduler.computed(one.chunk, one.n_right)
            outcomes.append((sample.request_id, one.delta))
            if is_over:
                sample.conclude(one.delta, self._match(sample))
                self._end(sample)
        return outcomes

    def _recompute(self, sample: Generation) -> None:
        """Begin anew with the tokens of a session whose restored memory leads to no numbers.

        Whoever makes a snapshot decides what its memory is. The log is what counts.
        """
        logger.warning("%s: restored memory is of no use", sample.request_id)
        self._withdraw(sample.sequence)
        self.scheduler.forget(sample.sequence)
        self.scheduler.preempt(sample.sequence)
        sample.progress.scheduled = None  # what was cached is of no use either

    def _advance(
        self, sample: Generation, logits: Logits, likeliest: int, chosen: dict[str, list[int]]
    ) -> list[Outcome]:
        """The next deltas of a sample, and of the samples that fork from it here."""
        judge = sample.judge
        if judge is not None and judge.may_refuse and not sample.sequence.n_generated:
            match = self._match(sample)
            if judge.is_too_low(match):
                refusals = [one.refuse(match) for one in (*sample.part(), sample)]
                self._end(sample)
                return [(sample.request_id, delta) for delta in refusals]
        outcomes: list[Outcome] = []
        for other in sample.part() if sample.may_part else ():
            delta = other.advance(logits, likeliest, *chosen.get(other.sequence.id, ()))
            outcomes.append((sample.request_id, delta))
            if delta.finish_reason is None:
                self._fork(sample, other)
            else:
                other.conclude(delta, self._match(sample))
        delta = sample.advance(logits, likeliest, *chosen.get(sample.sequence.id, ()))
        outcomes.append((sample.request_id, delta))
        if delta.finish_reason is not None:
            self._withdraw(sample.sequence)
            sample.conclude(delta, self._match(sample))
            self._end(sample)
        elif self._under_way is not None and sample.sequence.token_ids[-1] in self._borders:
            self._withdraw(sample.sequence)  # as the decoder was not told where its turns are
        return outcomes

    def _match(self, sample: Generation) -> float | None:
        """How well the model has found what a sample that was just extended looks for."""
        assert sample.sequence.slot is not None
        return self._decoder.match(self._state, sample.sequence.slot)

    def _fork(self, origin: Generation, other: Generation) -> None:
        if other.sequence.drafter is not None:
            other.sequence.drafter.judge(0, 0)  # of the first token
        pages = self.scheduler.fork(origin.sequence, other.sequence)
        self._start(other)
        if pages is not None:
            slot, into = origin.sequence.slot, other.sequence.slot
            assert slot is not None
            assert into is not None
            self._state.copy_state(slot, into)
            self._state.copy_page(*pages)
            self._launcher.clear(into)

    def _start(self, sample: Generation) -> None:
        self._samples[sample.sequence.id] = sample
        self._requests.setdefault(sample.request_id, set()).add(sample.sequence.id)

    def _fail(self, request_id: str) -> Outcome:
        self.forget(request_id)
        return request_id, EngineError(
            "the engine failed while it worked on this request; try again"
        )

    def _end(self, sample: Generation, *, park: bool = True) -> None:
        sequence = sample.sequence
        self._withdraw(sequence)
        del self._samples[sequence.id]
        if not park:
            self.scheduler.forget(sequence)
        elif sequence.session is not None and sequence.placed:
            assert sequence.slot is not None
            row = self.scheduler.park(sequence)
            if row is not None:
                self._state.copy_state(sequence.slot, self._state.row(row))
        self.scheduler.remove(sequence)
        live = self._requests[sample.request_id]
        live.remove(sample.sequence.id)
        if not live:
            del self._requests[sample.request_id]


def _token_pairs(decoder: ServedDecoder) -> float:
    """Pairs of a prompt's tokens that cost as much as one token's matrix products, about."""
    if not decoder.n_pair_numbers:
        return _PAIRS_ARE_FREE
    return decoder.n_products / (_PRODUCTS_AN_EXPONENTIAL * decoder.n_pair_numbers)
