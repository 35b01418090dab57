"""The engine: requests in, streams of tokens out, one thread that makes them."""

import asyncio
import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Sequence as Items
from dataclasses import dataclass

from model.sampling import SamplingParams
from server.admission import Admission
from server.engine_core import EngineCore, Outcome
from server.errors import ApiError, EngineError, NotReadyError, OverloadedError, ShuttingDownError
from server.generation import Generation
from server.sequence import Sequence
from server.served_model import ServedModel
from server.settings import Settings
from server.token_stream import TokenStream

logger = logging.getLogger(__name__)

_JOIN_SECONDS = 5.0  # for the step that is under way when the engine stops


@dataclass(frozen=True)
class Usage:
    """How much of the engine is in use.

    Attributes:
        running: sequences that take part in steps.
        waiting: sequences that wait for a place.
        pages_used: pages of the pool in use.
        slots_used: fixed-size states in use.
    """

    running: int
    waiting: int
    pages_used: int
    slots_used: int


class Engine:
    """Runs a model for many requests at once.

    Everything but the thread's own loop belongs to one event loop's thread, so that checking for
    room and taking it cannot be torn apart. What crosses over: new generations and aborts, in a
    list under a lock; outcomes, in one call a step.

    Args:
        model: to run.
        settings: limits and sizes.

    Raises:
        StartupError: the memory pool is too small to hold anything.
    """

    def __init__(self, model: ServedModel, settings: Settings) -> None:
        self.model = model
        self.settings = settings
        self._core = EngineCore(model, settings)
        self._admission = Admission(model, settings, self._core.scheduler)
        self._streams: dict[str, TokenStream] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False

        self._mail = threading.Condition()
        self._submitted: list[Generation] = []
        self._aborted: list[str] = []
        self._stopping = False
        self._alive = False
        self._moved = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    @property
    def pool_pages(self) -> int:
        """Pages of the memory pool."""
        return self._core.allocator.n_pages

    @property
    def n_streams(self) -> int:
        """Requests that have a reader and are not finished."""
        return len(self._streams)

    @property
    def usage(self) -> Usage:
        """How much is in use, at this moment."""
        scheduler = self._core.scheduler
        return Usage(
            running=len(scheduler.running),
            waiting=len(self._submitted) + len(scheduler.waiting),
            pages_used=scheduler.allocator.n_used,
            slots_used=scheduler.n_slots - scheduler.n_free_slots,
        )

    def start(self) -> None:
        """Warm the model up and start the thread; called once, from the event loop."""
        self._loop = asyncio.get_running_loop()
        self._core.warm_up(self.model.config.bos_id)
        self._alive = True
        self._thread.start()

    def submit(
        self,
        source: str | Items[int],
        *,
        max_tokens: int | None = None,
        sampling: SamplingParams | None = None,
        stop: Items[str] = (),
        request_id: str = "-",
    ) -> TokenStream:
        """Queue a request; the stream that comes back must be closed.

        Args:
            source: text, or content ids.
            max_tokens: tokens to generate at most; None for what a copy needs.
            sampling: how tokens are chosen; greedily by default.
            stop: strings that end the generation.
            request_id: for the log.

        Raises:
            UnavailableError: the queue is full, or the server is about to end or does not work.
            InvalidRequestError: the model cannot serve it.
            RequestTooLargeError: the memory pool could never hold it.
        """
        self._check_open()
        if self._n_live() >= self.settings.max_running + self.settings.max_waiting:
            raise OverloadedError("too many requests are waiting; try again later")
        prompt, max_tokens = self._admission.admit(source, max_tokens)
        sequence = Sequence(f"gen-{uuid.uuid4().hex}", prompt, max_tokens)
        generation = Generation(
            sequence, sampling or SamplingParams(), stop, self.model.tokenizer, request_id
        )
        stream = TokenStream(sequence.id, len(prompt), self.abort)
        self._streams[sequence.id] = stream
        self._idle.clear()
        with self._mail:
            if not self._submitted and not self._core.n_live:
                self._moved = time.monotonic()  # idle until now, not stuck
            self._submitted.append(generation)
            self._mail.notify()
        return stream

    def abort(self, id: str) -> None:
        """End a generation before its next step and free all it has; idempotent."""
        if self._forget(id) is not None:
            with self._mail:
                self._aborted.append(id)
                self._mail.notify()

    def check_ready(self) -> None:
        """Return if requests can be served now.

        Raises:
            ShuttingDownError: no new ones are taken any more.
            NotReadyError: the thread is dead or stuck.
        """
        self._check_open()
        still = time.monotonic() - self._moved
        if self._n_live() and still > self.settings.stall_seconds:
            raise NotReadyError(f"the engine has work, but made no step for {still:.0f} s")

    async def drain(self, seconds: float) -> None:
        """Take no new requests; wait until the others are finished, or for so many seconds."""
        self._draining = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds)

    async def stop(self) -> None:
        """Fail what is not finished and end the thread; idempotent."""
        self._draining = True
        unfinished = list(self._streams)
        self._fail_all(ShuttingDownError("the server shut down before the request was finished"))
        with self._mail:
            self._aborted.extend(unfinished)
            self._stopping = True
            self._mail.notify()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, _JOIN_SECONDS)

    def _check_open(self) -> None:
        if self._draining:
            raise ShuttingDownError(
                "the server is shutting down", retry_after=round(self.settings.drain_seconds) + 1
            )
        if not self._alive:
            raise NotReadyError("the engine is not running")

    def _n_live(self) -> int:
        with self._mail:
            return len(self._submitted) + self._core.n_live

    def _forget(self, id: str) -> TokenStream | None:
        stream = self._streams.pop(id, None)
        if not self._streams:
            self._idle.set()
        return stream

    def _deliver(self, outcomes: list[Outcome]) -> None:
        for id, outcome in outcomes:
            if (stream := self._streams.get(id)) is None:
                continue  # its reader has left
            if isinstance(outcome, ApiError):
                stream.fail(outcome)
                self._forget(id)
            else:
                stream.push(outcome)
                if outcome.finish_reason is not None:
                    self._forget(id)

    def _fail_all(self, error: ApiError) -> None:
        self._deliver([(id, error) for id in self._streams])

    # The rest runs on the engine's thread.

    def _run(self) -> None:
        try:
            while self._take_mail():
                outcomes = self._core.step()
                self._moved = time.monotonic()
                if outcomes:
                    self._loop.call_soon_threadsafe(self._deliver, outcomes)
        except BaseException:
            self._alive = False  # first, so that no request is taken that nobody would serve
            logger.critical("the engine's thread died", exc_info=True)
            with contextlib.suppress(RuntimeError):  # the event loop may be gone
                self._loop.call_soon_threadsafe(
                    self._fail_all, EngineError("the engine died while it worked on this request")
                )

    def _take_mail(self) -> bool:
        """Wait for something to do and take what came; False when it is time to end."""
        with self._mail:
            while not (self._submitted or self._aborted or self._core.n_live or self._stopping):
                self._mail.wait()
            for generation in self._submitted:
                self._core.add(generation)
            aborted = self._aborted
            self._submitted, self._aborted = [], []
        for id in aborted:
            self._core.abort(id)
        return not self._stopping
