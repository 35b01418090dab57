"""The thread that makes the steps: what it is told, and what becomes of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from causalrn.model.state import RaggedBatch
from causalrn.server.engine.core import EngineCore
from causalrn.server.engine.deltas import Progress
from causalrn.server.engine.engine import Engine
from causalrn.server.engine.engine_thread import EngineThread
from causalrn.server.engine.generation import Generation, GenerationParams
from causalrn.server.engine.mailbox import Mailbox
from causalrn.server.engine.metrics import Metrics, Usage
from causalrn.server.engine.readers import Readers
from causalrn.server.engine.sequence import Sequence
from causalrn.server.engine.turnstile import Turnstile
from causalrn.server.errors import EngineError, NotReadyError
from causalrn.server.settings import Settings
from tests.server.conftest import Gate, make_settings
from tests.server.engine.running import read, until
from tests.server.fake_model import FakeModel
from tests.server.in_loop import in_loop


@in_loop
async def test_a_dead_thread_fails_everyone_and_is_not_ready(
    model: FakeModel, settings: Settings, gate: Gate
) -> None:
    def die(batch: RaggedBatch) -> None:
        gate(batch)
        raise SystemExit

    engine = Engine(model, settings)
    engine.start()
    model.decoder.before_extend = die
    streams = [engine.submit("hello") for _ in range(3)]
    gate.open()
    for stream in streams:
        with pytest.raises(EngineError):
            await read(stream)
    with pytest.raises(NotReadyError):
        engine.check_ready()
    with pytest.raises(NotReadyError):
        engine.submit("hello")
    await engine.stop()


@dataclass
class Parts:
    """A thread, and what it shares with the event loop."""

    thread: EngineThread
    mail: Mailbox
    core: EngineCore


@asynccontextmanager
async def started(model: FakeModel) -> AsyncIterator[Parts]:
    core, mail = EngineCore(model, make_settings()), Mailbox()
    metrics = Metrics("fake", lambda: Usage(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), 64, {})
    readers = Readers(metrics, lambda _: None, mail.abort)
    thread = EngineThread("fake", core, mail, readers, metrics, Turnstile())
    thread.start()
    try:
        yield Parts(thread, mail, core)
    finally:
        await thread.stop()


def generation(model: FakeModel) -> Generation:
    prompt = [256, *b"hello", 257]
    sequence = Sequence("a-0", prompt, 6)
    return Generation("a", sequence, GenerationParams(6), model.tokenizer, Progress(0.0))


@in_loop
async def test_a_call_gets_the_core_and_its_result_comes_back(model: FakeModel) -> None:
    async with started(model) as parts:
        assert await parts.thread.call(lambda core: core) is parts.core


@in_loop
async def test_an_error_of_a_call_is_the_callers_and_the_thread_goes_on(model: FakeModel) -> None:
    def divide(_: EngineCore) -> float:
        return 1 / 0

    async with started(model) as parts:
        with pytest.raises(ZeroDivisionError):
            await parts.thread.call(divide)
        assert await parts.thread.call(lambda _: "still here") == "still here"


@in_loop
async def test_the_time_before_a_request_came_does_not_count_as_still(model: FakeModel) -> None:
    async with started(model) as parts:
        await asyncio.sleep(0.3)
        assert parts.thread.seconds_still() == 0
        with parts.mail.changed:  # the thread cannot notice yet that there is work
            assert parts.thread.submit(generation(model))
            assert parts.thread.seconds_still() < 0.3


@in_loop
async def test_a_step_that_lasts_is_still(model: FakeModel, gate: Gate) -> None:
    async with started(model) as parts:
        model.decoder.before_extend = gate
        parts.thread.submit(generation(model))
        await until(gate.reached.is_set)
        await until(lambda: parts.thread.seconds_still() > 0.1)
        gate.open()
        await until(lambda: parts.thread.seconds_still() == 0)


@in_loop
async def test_a_thread_that_was_stopped_takes_neither_requests_nor_calls(model: FakeModel) -> None:
    async with started(model) as parts:
        await parts.thread.stop()
        await parts.thread.stop()
        assert not parts.thread.submit(generation(model))
        with pytest.raises(NotReadyError, match="the engine of fake is not running"):
            parts.thread.call(lambda core: core)


@in_loop
async def test_a_call_that_came_before_the_end_is_still_made(model: FakeModel, gate: Gate) -> None:
    async with started(model) as parts:
        model.decoder.before_extend = gate
        parts.thread.submit(generation(model))
        await until(gate.reached.is_set)
        with parts.mail.changed:
            waiting = parts.thread.call(lambda core: core)
            parts.mail.stopping = True
        gate.open()
        assert await waiting is parts.core
