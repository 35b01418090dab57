"""The event loop's side of the engine: who reads which request, how long, and how it ended."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from causalrn.server.engine.deltas import Delta, FinishReason, Outcome
from causalrn.server.engine.judge import Judge
from causalrn.server.engine.metrics import Metrics
from causalrn.server.engine.sink import Sink
from causalrn.server.engine.token_stream import TokenStream
from causalrn.server.errors import DeadlineExceededError, ServiceError

logger = logging.getLogger(__name__)

# For each stream, between two wake-ups of its reader. Waking one takes about half of this, so half
# of the event loop's time is left however many streams there are.
_READER_SECONDS = 100e-6

_TIMER_SECONDS = 1e-3  # uvloop rounds timers to whole milliseconds

EndReason = FinishReason | Literal["abort", "error"]
"""Why a request is over, in metrics and in the log."""


@dataclass
class _Reader:
    """The reader of one request.

    Attributes:
        stream: where the reader reads.
        request_id: the id that the client knows, for the log.
        sink: gets the outcomes first, and hands them over to the stream later; or None.
        judge: judges the answers; None if nothing is expected of them.
        deadline: ends the request when its time is over.
        due: when the reader may be woken again; None before its first token, which is never held.
        last_tokens: when the latest token of each sample came.
    """

    stream: TokenStream
    request_id: str
    sink: Sink | None = None
    judge: Judge | None = None
    deadline: asyncio.TimerHandle | None = None
    due: float | None = None
    last_tokens: dict[int, float] = field(default_factory=dict)


class Readers:
    """The readers of all requests that are not over. Belongs to the event loop's thread.

    Args:
        metrics: where requests and tokens are counted.
        release: called with the id of every request that is over.
        abandon: called with the id of a request that ends before the engine has finished it.
    """

    def __init__(
        self, metrics: Metrics, release: Callable[[str], None], abandon: Callable[[str], None]
    ) -> None:
        self._metrics = metrics
        self._release = release
        self._abandon = abandon
        self._readers: dict[str, _Reader] = {}
        self._held: dict[str, _Reader] = {}  # that have something new and are not due yet
        self._next_look: asyncio.TimerHandle | None = None  # at those held
        self._none_left = asyncio.Event()
        self._none_left.set()

    def __len__(self) -> int:
        return len(self._readers)

    def add(
        self,
        stream: TokenStream,
        request_id: str,
        timeout: float | None,
        sink: Sink | None = None,
        judge: Judge | None = None,
    ) -> None:
        """Begin to deliver what the engine makes of a request.

        Args:
            stream: where it is read.
            request_id: the id that the client knows, for the log.
            timeout: seconds after which the request ends with an error; None for no limit.
            sink: gets the outcomes first; what it passes to `hand_over` reaches the stream.
            judge: judges the answers; None if nothing is expected of them.
        """
        reader = self._readers[stream.id] = _Reader(stream, request_id, sink, judge)
        if timeout is not None:
            error = DeadlineExceededError(f"the request took longer than {timeout:g} s")
            loop = asyncio.get_running_loop()
            reader.deadline = loop.call_later(timeout, self.end, stream.id, "error", error)
        self._none_left.clear()

    def end(self, id: str, reason: EndReason, error: ServiceError | None = None) -> None:
        """End a request from this side; what the engine still makes of it is dropped.

        Args:
            id: the request's; nothing happens if it is over already.
            reason: why it ends.
            error: what its reader is told.
        """
        if (reader := self._readers.get(id)) is not None:
            if error is not None:
                reader.stream.fail(error)
            self._forget(id, reader, reason)
            self._abandon(id)

    def fail_all(self, error: ServiceError) -> None:
        """End all requests with an error."""
        for id in list(self._readers):
            self.end(id, "error", error)

    def deliver(self, outcomes: list[Outcome]) -> None:
        """Give what a step made to the requests' sinks, or to the streams of those without one."""
        direct = []
        for outcome in outcomes:
            reader = self._readers.get(outcome[0])
            if reader is not None and reader.sink is not None:
                reader.sink.write(outcome)
            else:
                direct.append(outcome)
        self.hand_over(direct)

    def hand_over(self, outcomes: list[Outcome]) -> None:
        """Push outcomes to their streams; those of requests that are over are dropped."""
        now = time.monotonic()
        pause = _READER_SECONDS * (len(self._readers) - 1)
        for id, outcome in outcomes:
            if (reader := self._readers.get(id)) is None:
                continue  # it has left
            if isinstance(outcome, ServiceError):
                reader.stream.fail(outcome)
                self._forget(id, reader, "error")
                continue
            self._count(reader, outcome, now)
            is_last = outcome.finish_reason is not None
            is_due = reader.due is None or now >= reader.due or is_last
            reader.stream.push(outcome, wake=is_due)
            if is_due:
                reader.due = now + pause
                self._held.pop(id, None)
            else:
                self._held[id] = reader
            if outcome.finish_reason is not None and reader.stream.is_complete:
                self._forget(id, reader, outcome.finish_reason)
        self._look_later(now)

    async def wait_for_none(self, seconds: float) -> None:
        """Return when all requests are over, or after so many seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._none_left.wait(), seconds)

    def _look_later(self, now: float) -> None:
        """See to it that held readers are woken when they are due, even if no step comes."""
        if self._held and self._next_look is None:
            first = min(reader.due or now for reader in self._held.values())
            self._next_look = asyncio.get_running_loop().call_later(first - now, self._wake_held)

    def _wake_held(self) -> None:
        self._next_look = None
        now = time.monotonic()
        pause = _READER_SECONDS * (len(self._readers) - 1)
        for id, reader in list(self._held.items()):
            if reader.due is None or reader.due <= now + _TIMER_SECONDS:
                del self._held[id]
                reader.due = now + pause
                reader.stream.wake()
        self._look_later(now)

    def _count(self, reader: _Reader, delta: Delta, now: float) -> None:
        metrics, stream = self._metrics, reader.stream
        if reader.due is None:
            if delta.finish_reason != "not_found":
                metrics.time_to_first_token.observe(now - stream.progress.arrived)
            metrics.prompt_tokens += stream.n_prompt_tokens
        last = reader.last_tokens.get(delta.index)
        n_generated = delta.n_generated
        if last is not None and n_generated:  # which came together, in one step
            metrics.inter_token_latency.observe((now - last) / n_generated, n_generated)
        reader.last_tokens[delta.index] = now
        metrics.generation_tokens += n_generated
        if delta.finish_reason is not None and reader.judge is not None:
            is_answered = delta.finish_reason != "not_found"
            finding = reader.judge.finding(delta.match, is_answered=is_answered)
            metrics.answers[reader.judge.mode, finding, delta.verified] += 1

    def _forget(self, id: str, reader: _Reader, reason: EndReason) -> None:
        del self._readers[id]
        self._held.pop(id, None)
        if reader.deadline is not None:
            reader.deadline.cancel()
        if not self._readers:
            self._none_left.set()
        self._release(id)
        if reader.sink is not None:
            reader.sink.close(id)
        self._record(reader, reason)

    def _record(self, reader: _Reader, reason: EndReason) -> None:
        now, metrics, stream = time.monotonic(), self._metrics, reader.stream
        progress = stream.progress
        metrics.finished[reason] += 1
        metrics.e2e_latency.observe(now - progress.arrived)
        if progress.scheduled is not None:
            metrics.queue_time.observe(progress.scheduled - progress.arrived)
            if progress.first_token is not None:
                metrics.prefill_time.observe(progress.first_token - progress.scheduled)
        if progress.first_token is not None and progress.last_token is not None:
            metrics.decode_time.observe(progress.last_token - progress.first_token)
        logger.info(
            "%s %s: prompt %d, cached %d, generated %d tokens, first %.1f ms, all %.1f ms, "
            "request %s",
            stream.id,
            reason,
            stream.n_prompt_tokens,
            progress.n_cached,
            stream.n_completion_tokens,
            1e3 * ((progress.first_token or now) - progress.arrived),
            1e3 * (now - progress.arrived),
            reader.request_id,
            extra={"request_id": reader.request_id},
        )
