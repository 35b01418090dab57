"""The engine: requests in, streams of tokens out, one thread that makes them."""

import asyncio
import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any, TypeVar

from model.state import LayerSpec
from server.engine.admission import Admission
from server.engine.core import EngineCore, StepTimes
from server.engine.generation import Generation, GenerationParams
from server.engine.mailbox import Call, Mailbox
from server.engine.metrics import Metrics, Usage
from server.engine.readers import Readers
from server.engine.scheduler import Scheduler
from server.engine.sequence import Sequence
from server.engine.served_model import ServedModel
from server.engine.token_stream import Progress, TokenStream
from server.engine.turnstile import Turnstile
from server.errors import (
    EngineError,
    ModelUnloadedError,
    NotReadyError,
    OverloadedError,
    RequestTooLargeError,
    ServiceError,
    ShuttingDownError,
    UnavailableError,
)
from server.sessions.journal import Journal
from server.sessions.store.base import SessionStore
from server.settings import Settings

logger = logging.getLogger(__name__)

T = TypeVar("T")

_JOIN_SECONDS = 5.0  # for the step that is under way when the engine stops
_PRIORITY_SECONDS = 10.0  # of waiting that make up for one step of priority
_CHECKS_PER_STALL = 4


@dataclass(frozen=True)
class Turn:
    """A session at the beginning of a turn.

    Attributes:
        session_id: of the session.
        token_ids: its log so far.
    """

    session_id: str
    token_ids: list[int]


@dataclass(frozen=True)
class Ticket:
    """A request that is admitted, but not queued yet.

    Attributes:
        id: of the request.
        prompt: framed, without what its session has already.
        params: what is asked for; `max_tokens` is a number.
        turn: of its session, if it has one.
        owner: whose memory it may share.
    """

    id: str
    prompt: list[int]
    params: GenerationParams
    turn: Turn | None
    owner: str


class Engine:
    """Runs a model for many requests at once.

    To make one takes a while, since it warms the model up, and may be done on any thread.
    Everything but the thread's own loop belongs to one event loop's thread, so that checking for
    room and taking it cannot be torn apart. What crosses over: new generations and aborts, in a
    list under a lock; outcomes, in one call a step.

    Args:
        model: to run.
        settings: limits and sizes.
        turnstile: that every step passes, if other engines share this machine.

    Attributes:
        created: when it was made, in whole seconds since 1970.

    Raises:
        StartupError: the memory pool is too small to hold anything.
    """

    def __init__(
        self, model: ServedModel, settings: Settings, turnstile: Turnstile | None = None
    ) -> None:
        self.created = int(time.time())
        self.model = model
        self.settings = settings
        self._turnstile = turnstile or Turnstile()
        self._core = EngineCore(model, settings)
        self._core.warm_up(model.config.bos_id)
        self._admission = Admission(
            model, settings, self._core.scheduler, self._core.bytes_per_page
        )
        self._mail = Mailbox()
        # None of these knows the engine, so that whoever forgets it gives its memory back at once.
        usage = partial(_usage, self._core.scheduler, self._mail)
        self.metrics = Metrics(model.name, usage, self.pool_pages)
        self._readers = Readers(self.metrics, self._admission.release, self._mail.abort)
        self._arrivals = count()
        self._draining = self._unloading = False

        self._alive = False
        self._queues = False  # for the turnstile
        self._moved = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"engine {model.name}", daemon=True)
        self._watch: asyncio.Task[None] | None = None

    @property
    def pool_pages(self) -> int:
        """Pages of the memory pool."""
        return self._core.allocator.n_pages

    @property
    def layers(self) -> list[LayerSpec]:
        """What each layer keeps of a sequence."""
        return self._core.layers

    @property
    def bytes_per_page(self) -> int:
        """Memory of one page of the pool."""
        return self._core.bytes_per_page

    @property
    def n_streams(self) -> int:
        """Requests that have a reader and are not finished."""
        return len(self._readers)

    @property
    def step_times(self) -> StepTimes:
        """What the steps so far spent their time on."""
        return replace(self._core.times)

    @property
    def n_steps(self) -> int:
        """Steps made so far."""
        return self._core.n_steps

    @property
    def usage(self) -> Usage:
        """How much is in use, at this moment."""
        return _usage(self._core.scheduler, self._mail)

    @property
    def reserved_bytes(self) -> int:
        """Memory that admitted requests may come to need."""
        return self._admission.reserved_bytes

    def start(self) -> None:
        """Start the thread; called once, from the event loop."""
        self._loop = asyncio.get_running_loop()
        self._alive = True
        self._thread.start()
        self._watch = asyncio.create_task(self._fail_when_stuck())

    def submit(
        self,
        source: str | Items[int],
        params: GenerationParams | None = None,
        *,
        request_id: str = "-",
    ) -> TokenStream:
        """Queue a request; the stream that comes back must be closed.

        Args:
            source: text, or content ids.
            params: what is asked for; a greedy copy by default.
            request_id: for the log.

        Raises:
            UnavailableError: the queue is full, or the server is about to end or does not work.
            InvalidRequestError: the model cannot serve it.
            RequestTooLargeError: the memory pool could never hold it.
        """
        (stream,) = self.submit_all([(source, params or GenerationParams())], request_id=request_id)
        return stream

    def submit_all(
        self,
        requests: Items[tuple[str | Items[int], GenerationParams]],
        *,
        request_id: str = "-",
        owner: str = "",
    ) -> list[TokenStream]:
        """Queue several requests, all of them or none; every stream must be closed.

        Args:
            requests: of each, text or content ids, and what is asked for.
            request_id: for the log.
            owner: whose memory they may share, and who may share theirs.

        Raises:
            ServiceError: as `submit`, for the first that is refused.
            RequestTooLargeError: there is no room for all of them even when there are no others.
        """
        n_samples = sum(params.n for _, params in requests)
        most = self.settings.max_running + self.settings.max_waiting
        if len(requests) > 1 and n_samples > most:
            raise RequestTooLargeError(
                f"the server holds {most} samples at once, these prompts make {n_samples}; send "
                "fewer of them",
                param="prompt",
            )
        tickets: list[Ticket] = []
        others = self._admission.reserved_samples
        try:
            for source, params in requests:
                tickets.append(self.admit(source, params, owner=owner))
        except BaseException as error:
            for ticket in tickets:
                self.withdraw(ticket)
            if tickets and not others and isinstance(error, OverloadedError):
                raise RequestTooLargeError(
                    f"the server has room for {len(tickets)} of these {len(requests)} prompts at "
                    "once; send fewer of them, shorten them or lower max_tokens",
                    param="prompt",
                ) from None
            raise
        return [self.enqueue(ticket, request_id=request_id) for ticket in tickets]

    def admit(
        self,
        source: str | Items[int],
        params: GenerationParams,
        turn: Turn | None = None,
        *,
        owner: str = "",
    ) -> Ticket:
        """Check a request and reserve what it may need; `enqueue` or `withdraw` it next.

        Args:
            source: text, or content ids.
            params: what is asked for.
            turn: of a session that it goes on from, and whose turn it is.
            owner: see `submit_all`.

        Raises:
            ServiceError: as `submit`; `SessionFullError` if the session has no room left for it.
        """
        self._check_open()
        id = f"gen-{uuid.uuid4().hex}"
        n_context = None if turn is None else len(turn.token_ids)
        prompt, max_tokens = self._admission.admit(id, source, params, n_context)
        return Ticket(id, prompt, replace(params, max_tokens=max_tokens), turn, owner)

    def withdraw(self, ticket: Ticket) -> None:
        """Give back what an admitted request reserved."""
        self._admission.release(ticket.id)

    def open_journal(self, store: SessionStore) -> Journal:
        """A journal for turns of sessions that are kept in a store."""
        return Journal(store, self.model.config.eos_id, self._readers.hand_over, self.abort)

    def enqueue(
        self, ticket: Ticket, *, request_id: str = "-", journal: Journal | None = None
    ) -> TokenStream:
        """Queue an admitted request; the stream that comes back must be closed.

        Args:
            ticket: from `admit`.
            request_id: for the log.
            journal: gets what the engine makes before the stream does.
        """
        params, turn = ticket.params, ticket.turn
        context = [] if turn is None else turn.token_ids
        prompt = context + ticket.prompt
        now = time.monotonic()
        progress = Progress(now)
        assert params.max_tokens is not None
        samples = [
            Generation(
                ticket.id,
                Sequence(
                    f"{ticket.id}-{index}",
                    list(prompt),
                    params.max_tokens,
                    rank=(now + _PRIORITY_SECONDS * params.priority, next(self._arrivals)),
                    reusable=not (params.echo and params.logprobs is not None),
                    owner=ticket.owner,
                    session=None if turn is None else turn.session_id,
                ),
                params,
                self.model.tokenizer,
                progress,
                index,
                len(context),
            )
            for index in range(params.n)
        ]
        samples[0].samples = samples[1:]
        stream = TokenStream(
            ticket.id,
            len(prompt),
            self.abort,
            n_samples=params.n,
            progress=progress,
            model=self.model.name,
            tokenizer=self.model.tokenizer,
        )
        self._readers.add(stream, request_id, params.timeout, journal)
        if self._mail.stopping:  # since it admitted the request
            self.abort(stream.id, self._farewell())
            return stream
        with self._mail.changed:
            if not self._mail.submitted and not self._core.n_live:
                self._moved = time.monotonic()  # idle until now, not stuck
            self._mail.submitted.append(samples[0])
            self._mail.changed.notify()
        return stream

    async def call(self, work: Callable[[EngineCore], T]) -> T:
        """Have the engine's thread do something between two steps.

        Raises:
            NotReadyError: the thread does not run, or is stuck; the latter may do it later.
        """
        answer: asyncio.Future[T] = self._loop.create_future()
        with self._mail.changed:
            if not self._alive:
                raise self._not_running()
            self._mail.calls.append(Call(work, answer))
            self._mail.changed.notify()
        try:
            async with asyncio.timeout(self.settings.stall_seconds):
                return await answer
        except TimeoutError:
            raise NotReadyError(f"the engine of {self.model.name} is stuck") from None

    def abort(self, id: str, error: ServiceError | None = None) -> None:
        """End a request before its next step and free all it has; idempotent.

        Args:
            id: of the request.
            error: what its reader is told, if it is not the reader who wants this.
        """
        self._readers.end(id, "abort" if error is None else "error", error)

    def check_ready(self) -> None:
        """Return if requests can be served now.

        Raises:
            ShuttingDownError: no new ones are taken any more.
            NotReadyError: the thread is dead or stuck.
        """
        self._check_open()
        still = self._seconds_still()
        if still > self.settings.stall_seconds:
            raise NotReadyError(
                f"the engine of {self.model.name} has work, but made no step for {still:.0f} s"
            )

    async def drain(self, seconds: float, *, unloading: bool = False) -> None:
        """Take no new requests; wait until the others are finished, or for so many seconds.

        Args:
            seconds: to wait at most.
            unloading: whether it is this engine alone that is about to end, and not the server.
        """
        self._draining, self._unloading = True, unloading
        await self._readers.wait_for_none(seconds)

    async def stop(self) -> None:
        """Fail what is not finished and end the thread; idempotent."""
        self._draining = True
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None  # its last exception knows this engine
        self._readers.fail_all(self._farewell())
        with self._mail.changed:
            self._mail.stopping = True
            self._mail.changed.notify()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, _JOIN_SECONDS)
            if self._thread.is_alive():
                logger.critical("the engine of %s does not end: it is stuck", self.model.name)

    def _check_open(self) -> None:
        if self._unloading:
            raise ModelUnloadedError(f"the model {self.model.name} is being unloaded")
        if self._draining:
            raise ShuttingDownError(
                "the server is shutting down", retry_after=round(self.settings.drain_seconds) + 1
            )
        if not self._alive:
            raise self._not_running()

    def _farewell(self) -> UnavailableError:
        """What requests are told that are not finished in time."""
        if self._unloading:
            return ModelUnloadedError(
                f"the model {self.model.name} was unloaded before the request was finished"
            )
        return ShuttingDownError("the server shut down before the request was finished")

    def _not_running(self) -> NotReadyError:
        return NotReadyError(f"the engine of {self.model.name} is not running")

    def _n_live(self) -> int:
        with self._mail.changed:
            return len(self._mail.submitted) + self._core.n_live

    def _seconds_still(self) -> float:
        """Seconds since the last step that it made or waited for, if there is anything to do."""
        if not self._n_live():
            return 0.0
        moved = max(self._moved, self._turnstile.moved) if self._queues else self._moved
        return time.monotonic() - moved

    async def _fail_when_stuck(self) -> None:
        """Leave no request hanging when a step does not come to an end."""
        limit = self.settings.stall_seconds
        while True:
            await asyncio.sleep(limit / _CHECKS_PER_STALL)
            if self._readers and self._seconds_still() > limit:
                logger.critical(
                    "the engine of %s made no step for %.0f s",
                    self.model.name,
                    self._seconds_still(),
                )
                self._readers.fail_all(
                    EngineError("the engine is stuck; this request was given up")
                )

    # The rest runs on the engine's thread.

    def _run(self) -> None:
        try:
            while self._take_mail():
                if self._core.n_live:
                    self._step()
        except BaseException:
            self._alive = False  # first, so that no request is taken that nobody would serve
            logger.critical("the thread of %s died", self.model.name, exc_info=True)
            with contextlib.suppress(RuntimeError):  # the event loop may be gone
                self._loop.call_soon_threadsafe(
                    self._readers.fail_all,
                    EngineError("the engine died while it worked on this request"),
                )
        with self._mail.changed:
            self._alive = False
            _, _, calls = self._mail.take()
        for call in calls:
            self._answer(call, None, self._not_running())

    def _step(self) -> None:
        self._queues = True
        self._turnstile.enter(self.model.name)
        self._moved = time.monotonic()
        self._queues = False
        try:
            outcomes = self._core.step()
        finally:
            self._turnstile.leave()
        self._moved = time.monotonic()
        if self._core.last_step_tokens:
            self.metrics.iteration_tokens.observe(self._core.last_step_tokens)
        if outcomes:
            self._loop.call_soon_threadsafe(self._readers.deliver, outcomes)

    def _take_mail(self) -> bool:
        """Wait for something to do and take what came; False when it is time to end."""
        with self._mail.changed:
            while not (self._mail or self._core.n_live):
                self._mail.changed.wait()
            submitted, aborted, calls = self._mail.take()
            for generation in submitted:
                self._core.add(generation)
        for id in aborted:
            self._core.abort(id)
        for call in calls:
            self._do(call)
        return not self._mail.stopping

    def _do(self, call: Call) -> None:
        try:
            result = call.work(self._core)
        except Exception as error:
            self._answer(call, None, error)
        else:
            self._answer(call, result)

    def _answer(self, call: Call, result: Any, error: Exception | None = None) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop may be gone
            self._loop.call_soon_threadsafe(_settle, call.answer, result, error)


def _usage(scheduler: Scheduler, mail: Mailbox) -> Usage:
    """How much is in use, at this moment."""
    return Usage(
        running=len(scheduler.running),
        waiting=len(mail.submitted) + len(scheduler.waiting),
        pages_used=scheduler.allocator.n_used,
        pages_kept=scheduler.allocator.n_kept,
        slots_used=scheduler.n_slots - scheduler.n_free_slots,
        preemptions=scheduler.n_preemptions,
        prefix_cache_queries=scheduler.cache.stats.queries,
        prefix_cache_hits=scheduler.cache.stats.hits,
        sessions_warm=len(scheduler.sessions),
        session_evictions=scheduler.sessions.n_evictions,
    )


def _settle(answer: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    """Give an answer to whoever still waits for it."""
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)
