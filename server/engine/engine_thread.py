"""The thread on which an engine computes: mail in, one step, outcomes out, and again."""

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from causalrn.model.device import DeviceError
from causalrn.server.engine.core import EngineCore
from causalrn.server.engine.generation import Generation
from causalrn.server.engine.mailbox import Call, Mailbox
from causalrn.server.engine.metrics import Metrics
from causalrn.server.engine.readers import Readers
from causalrn.server.engine.turnstile import Turnstile
from causalrn.server.errors import DEVICE_FAILED, EngineError, NotReadyError

logger = logging.getLogger(__name__)

T = TypeVar("T")

_LAST_WORDS_SECONDS = 1.0  # for requests to learn that the server ends
_JOIN_SECONDS = 5.0  # for the step that is under way when the thread is to stop


class EngineThread:
    """Steps a core while there is anything to do.

    Its public methods belong to the event loop's thread. What crosses over: new generations,
    aborts and calls, in a mailbox under a lock; outcomes, in one call a step.

    Args:
        name: of the model, for people.
        core: to step; after `start` it belongs to this thread alone.
        mail: where the event loop leaves work for it.
        readers: get what each step made.
        metrics: where the sizes of steps are counted.
        turnstile: passed before every step, and left after it.
        exits: whether the process is to end if the device fails that the core computes on.
    """

    def __init__(
        self,
        name: str,
        core: EngineCore,
        mail: Mailbox,
        readers: Readers,
        metrics: Metrics,
        turnstile: Turnstile,
        *,
        exits: bool = False,
    ) -> None:
        self._name = name
        self._core = core
        self._mail = mail
        self._readers = readers
        self._metrics = metrics
        self._turnstile = turnstile
        self._exits = exits
        self._alive = False
        self._reason = ""
        self._queues = False  # whether it waits at the turnstile
        self._moved = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"engine {name}", daemon=True)

    def start(self) -> None:
        """Begin to work; called once."""
        self._loop = asyncio.get_running_loop()
        self._alive = True
        self._thread.start()

    def submit(self, generation: Generation) -> bool:
        """Queue a request, by its first sample; False if the thread is about to end."""
        with self._mail.changed:
            if self._mail.stopping:
                return False
            if not self._mail.submitted and not self._core.n_live:
                self._moved = time.monotonic()  # idle until now, not stuck
            self._mail.submitted.append(generation)
            self._mail.changed.notify()
        return True

    def call(self, work: Callable[[EngineCore], T]) -> asyncio.Future[T]:
        """Have something done between two steps.

        Raises:
            NotReadyError: the thread does not run.
        """
        answer: asyncio.Future[T] = self._loop.create_future()
        with self._mail.changed:
            self.check_alive()
            self._mail.calls.append(Call(work, answer))
            self._mail.changed.notify()
        return answer

    def check_alive(self) -> None:
        """Return if the thread runs.

        Raises:
            NotReadyError: it was not started, has ended, or died.
        """
        if not self._alive:
            raise self._not_running()

    def seconds_still(self) -> float:
        """Seconds since the last step that it made or waited for; 0 if there is nothing to do."""
        with self._mail.changed:
            n_live = len(self._mail.submitted) + self._core.n_live
        if not n_live:
            return 0.0
        moved = max(self._moved, self._turnstile.moved) if self._queues else self._moved
        return time.monotonic() - moved

    async def stop(self) -> None:
        """Let the thread end after the step that is under way; idempotent."""
        with self._mail.changed:
            self._mail.stopping = True
            self._mail.changed.notify()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, _JOIN_SECONDS)
            if self._thread.is_alive():
                logger.critical("the engine of %s does not end: it is stuck", self._name)

    # The rest runs on the thread.

    def _run(self) -> None:
        try:
            while self._take_mail():
                if self._core.n_live:
                    self._step()
        except BaseException as error:
            if isinstance(error, DeviceError):
                self._reason = f": {error}; restart the server"
            self._alive = False  # first, so that no request is taken that nobody would serve
            logger.critical("the thread of %s died", self._name, exc_info=True)
            self._tell_loop(
                self._readers.fail_all,
                EngineError("the engine died while it worked on this request"),
            )
            if self._reason and self._exits:
                logger.critical("the server ends, as CAUSALRN_EXIT_ON_DEVICE_ERROR says")
                self._tell_loop(self._loop.call_later, _LAST_WORDS_SECONDS, os._exit, DEVICE_FAILED)
        with self._mail.changed:
            self._alive = False
            _, _, calls = self._mail.take()
        for call in calls:
            self._tell_loop(_settle, call.answer, None, self._not_running())

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

    def _step(self) -> None:
        self._queues = True
        self._turnstile.enter(self._name)
        self._moved = time.monotonic()
        self._queues = False
        try:
            outcomes = self._core.step()
        finally:
            self._turnstile.leave()
        self._moved = time.monotonic()
        if self._core.last_step_tokens:
            self._metrics.iteration_tokens.observe(self._core.last_step_tokens)
        if outcomes:
            self._loop.call_soon_threadsafe(self._readers.deliver, outcomes)

    def _do(self, call: Call) -> None:
        try:
            result = call.work(self._core)
        except Exception as error:
            self._tell_loop(_settle, call.answer, None, error)
        else:
            self._tell_loop(_settle, call.answer, result, None)

    def _tell_loop(self, tell: Callable[..., object], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop may be gone
            self._loop.call_soon_threadsafe(tell, *args)

    def _not_running(self) -> NotReadyError:
        return NotReadyError(f"the engine of {self._name} is not running{self._reason}")


def _settle(answer: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    """Give an answer, unless nobody waits for it any more."""
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)
