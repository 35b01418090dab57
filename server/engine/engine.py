"""The engine: requests in, streams of tokens out."""

import time
from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Concatenate, ParamSpec, TypeVar

from causalrn.model.state import LayerSpec
from causalrn.server.engine.admission import Admission
from causalrn.server.engine.core import EngineCore, StepTimes
from causalrn.server.engine.deltas import Outcome, Progress
from causalrn.server.engine.door import Door
from causalrn.server.engine.engine_thread import EngineThread
from causalrn.server.engine.generation import GenerationParams
from causalrn.server.engine.mailbox import Mailbox
from causalrn.server.engine.metrics import Metrics, Usage
from causalrn.server.engine.pooled_sessions import PooledSessions
from causalrn.server.engine.readers import Readers
from causalrn.server.engine.reservations import Reservations
from causalrn.server.engine.served_model import ServedModel
from causalrn.server.engine.sink import Sink
from causalrn.server.engine.ticket import Context, Ticket
from causalrn.server.engine.token_stream import TokenStream
from causalrn.server.engine.turnstile import Turnstile
from causalrn.server.engine.usage import measure_usage
from causalrn.server.engine.watchdog import Watchdog
from causalrn.server.errors import ServiceError
from causalrn.server.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")


class Engine:
    """Runs a model for many requests at once.

    Making one warms the model up, which takes a while and may happen on any thread. From `start`
    on, everything here belongs to one event loop's thread, so that nothing can come between
    checking for room and taking it; the steps are made by a thread of the engine's own.

    Args:
        model: to run.
        settings: of the server, with its limits and sizes.
        turnstile: what every step passes through; engines on the same machine share one.

    Attributes:
        created: when it was made, in whole seconds since 1970.
        model, settings: as above.
        metrics: counters of its requests, tokens and steps.

    Raises:
        StartupError: the memory pool is too small to hold anything.
    """

    def __init__(
        self, model: ServedModel, settings: Settings, turnstile: Turnstile | None = None
    ) -> None:
        self.created = int(time.time())
        self.model = model
        self.settings = settings
        self._core = EngineCore(model, settings)
        self._core.warm_up(model.config.bos_id)
        scheduler = self._core.scheduler
        self._reservations = Reservations(
            max_samples=settings.max_running + settings.max_waiting,
            max_bytes=settings.max_reserved_pools * settings.pool_bytes,
        )
        self._admission = Admission(
            model, settings, scheduler, self._core.bytes_per_page, self._reservations
        )
        self._door = Door(model.name, settings.drain_seconds)
        self._arrivals = count()
        # None of these refers to the engine, so its memory is freed with the last reference to it.
        self._mail = Mailbox()
        usage = partial(measure_usage, scheduler, self._mail)
        self.metrics = Metrics(model.name, usage, self.pool_pages, self._core.tensor_bytes)
        self._readers = Readers(self.metrics, self._reservations.release, self._mail.abort)
        self._thread = EngineThread(
            model.name,
            self._core,
            self._mail,
            self._readers,
            self.metrics,
            turnstile or Turnstile(),
            exits=settings.exit_on_device_error,
        )
        self._watchdog = Watchdog(
            model.name, self._thread.seconds_still, self._readers, settings.stall_seconds
        )

    @property
    def pool_pages(self) -> int:
        """Pages of the memory pool."""
        return self._core.pool.allocator.n_pages

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
        """How long the steps so far took, by kind of work."""
        return replace(self._core.times)

    @property
    def n_steps(self) -> int:
        """Steps made so far."""
        return self._core.n_steps

    @property
    def usage(self) -> Usage:
        """How much is in use, at this moment."""
        return measure_usage(self._core.scheduler, self._mail)

    @property
    def reserved_bytes(self) -> int:
        """Memory that admitted requests may come to need."""
        return self._reservations.n_bytes

    def start(self) -> None:
        """Begin to serve; called once, from the event loop."""
        self._thread.start()
        self._watchdog.start()

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
            request_id: the id that the client knows, for the log.

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
        reserve: Callable[[int], None] | None = None,
    ) -> list[TokenStream]:
        """Queue several requests, all of them or none; every stream must be closed.

        Args:
            requests: for each, its text or content ids, and what is asked for.
            request_id: the id that the client knows, for the log.
            owner: whose memory they may share, and who may share theirs.
            reserve: called with the most tokens that they may use; what it raises refuses them.

        Raises:
            ServiceError: as `submit`, for the first that is refused.
            RequestTooLargeError: there is no room for all of them even when there are no others.
        """
        self._check_open()
        tickets = self._admission.admit_all(requests, owner=owner)
        try:
            if reserve is not None:
                reserve(sum(ticket.most_tokens for ticket in tickets))
        except BaseException:
            for ticket in tickets:
                self.withdraw(ticket)
            raise
        return [self.enqueue(ticket, request_id=request_id) for ticket in tickets]

    def admit(
        self,
        source: str | Items[int],
        params: GenerationParams,
        context: Context | None = None,
        *,
        owner: str = "",
    ) -> Ticket:
        """Check a request and reserve what it may need; `enqueue` or `withdraw` it next.

        Args:
            source: text, or content ids.
            params: what is asked for.
            context: tokens that it goes on from; no other request may use them until it is over.
            owner: see `submit_all`.

        Raises:
            ServiceError: as `submit`; `SessionFullError` if the context leaves no room for it.
        """
        self._check_open()
        return self._admission.admit(source, params, context, owner=owner)

    def withdraw(self, ticket: Ticket) -> None:
        """Give back what an admitted request reserved."""
        self._reservations.release(ticket.id)

    def enqueue(
        self, ticket: Ticket, *, request_id: str = "-", sink: Sink | None = None
    ) -> TokenStream:
        """Queue an admitted request; the stream that comes back must be closed.

        Args:
            ticket: from `admit`.
            request_id: the id that the client knows, for the log.
            sink: gets the outcomes before the stream does, and passes them on with `hand_over`.
        """
        model, params = self.model, ticket.params
        progress = Progress(time.monotonic())
        stream = TokenStream(
            ticket.id,
            ticket.n_read,
            self.abort,
            n_samples=params.n,
            progress=progress,
            model=model.name,
            tokenizer=model.tokenizer,
        )
        first = ticket.first_sample(
            model.tokenizer, self._arrivals, progress, self.settings.max_draft_tokens
        )
        self._readers.add(stream, request_id, params.timeout, sink, ticket.judge)
        if not self._thread.submit(first):  # it was stopped since the request was admitted
            self.abort(stream.id, self._door.farewell())
        return stream

    def hand_over(self, outcomes: list[Outcome]) -> None:
        """Pass outcomes that a sink was given on to the readers."""
        self._readers.hand_over(outcomes)

    def abort(self, id: str, error: ServiceError | None = None) -> None:
        """End a request before its next step and free all it has; idempotent.

        Args:
            id: the engine's id of the request.
            error: what the reader is told; None if the reader itself wants this.
        """
        self._readers.end(id, "abort" if error is None else "error", error)

    async def call(
        self, work: Callable[Concatenate[PooledSessions, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Have the engine's thread do something with the memory of sessions between two steps.

        Args:
            work: a method, as in `engine.call(PooledSessions.drop, id)`.
            args, kwargs: its arguments.

        Raises:
            NotReadyError: the thread does not run, or is stuck; a stuck one may still do it later.
        """
        answer = self._thread.call(lambda core: work(core.sessions, *args, **kwargs))
        return await self._watchdog.wait(answer)

    def check_ready(self) -> None:
        """Return if requests can be served now.

        Raises:
            ShuttingDownError: no new requests are taken any more.
            NotReadyError: the thread is dead or stuck.
        """
        self._check_open()
        self._watchdog.check()

    def is_too_long(self, seconds: float) -> bool:
        """Whether something that has lasted so long is stuck; see `Watchdog`."""
        return self._watchdog.is_too_long(seconds)

    async def drain(self, seconds: float, *, unloading: bool = False) -> None:
        """Take no new requests, and wait until the others are finished or the time is over.

        Args:
            seconds: to wait at most.
            unloading: whether only this engine is about to end, and not the whole server.
        """
        self._door.close(unloading=unloading)
        await self._readers.wait_for_none(seconds)

    async def stop(self) -> None:
        """Fail what is not finished and end the thread; idempotent."""
        self._door.close()
        self._watchdog.stop()
        self._readers.fail_all(self._door.farewell())
        await self._thread.stop()

    def _check_open(self) -> None:
        self._door.check()
        self._thread.check_alive()
