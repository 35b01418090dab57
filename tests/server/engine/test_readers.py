"""What readers get, and when."""

import asyncio
import logging
import threading

import pytest

from causalrn.model.state import RaggedBatch
from causalrn.server.engine.deltas import Delta
from causalrn.server.engine.generation import GenerationParams
from causalrn.server.engine.metrics import Metrics
from causalrn.server.engine.readers import Readers
from causalrn.server.engine.token_stream import TokenStream
from causalrn.server.errors import DeadlineExceededError
from causalrn.server.settings import Settings
from tests.server.conftest import Gate
from tests.server.engine.running import read, running, until
from tests.server.fake_model import FakeModel
from tests.server.in_loop import in_loop
from tests.server.live_server import is_idle
from tests.server.steps import AtStep


class Clock:
    """Stands in for the module `time`."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@in_loop
async def test_a_deadline_ends_a_request_even_when_a_step_is_stuck(
    model: FakeModel, settings: Settings, gate: Gate
) -> None:
    async with running(model, settings) as engine:
        in_time = GenerationParams(timeout=20)
        assert await read(engine.submit("hello", in_time)) == "hello"
        model.decoder.before_extend = gate
        stream = engine.submit("hello", GenerationParams(timeout=0.05))
        with pytest.raises(DeadlineExceededError, match=r"longer than 0\.05 s"):
            await read(stream)
        gate.open()
        await until(lambda: is_idle(engine))


@in_loop
async def test_readers_of_many_streams_get_every_token_though_no_other_step_comes(
    model: FakeModel, settings: Settings, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Steps come faster than anybody may be woken, on any machine.
    monkeypatch.setattr("causalrn.server.engine.readers._READER_SECONDS", 0.1)

    async with running(model, settings) as engine:
        texts = [""] * 8
        steps, all_are_here = AtStep(5, gate), threading.Event()

        def begin_together(batch: RaggedBatch) -> None:
            assert all_are_here.wait(20)
            steps(batch)

        model.decoder.before_extend = begin_together
        streams = [engine.submit("hello") for _ in range(8)]
        all_are_here.set()

        async def read_on(i: int) -> None:
            async for delta in streams[i]:
                texts[i] += delta.text

        reading = [asyncio.create_task(read_on(i)) for i in range(8)]
        await until(gate.reached.is_set)

        def all_is_read() -> bool:
            made = sum(stream.n_completion_tokens for stream in streams)
            return sum(map(len, texts)) == made >= 16

        await until(all_is_read)
        gate.open()
        await asyncio.gather(*reading)
        assert texts == ["hello"] * 8


@in_loop
async def test_nobody_is_woken_before_their_own_pause_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What one reader waits for does not wake another one early."""
    clock = Clock()
    monkeypatch.setattr("causalrn.server.engine.readers.time", clock)
    monkeypatch.setattr(
        "causalrn.server.engine.readers._READER_SECONDS", 0.05
    )  # a pause of 0.05 for two
    metrics = Metrics("fake", lambda: pytest.fail("not asked"), 1, {})
    readers = Readers(metrics, lambda _: None, lambda _: None)
    streams = {name: TokenStream(name, 1, lambda _: None) for name in "ab"}
    for stream in streams.values():
        readers.add(stream, "-", None)

    def write(name: str, now: float) -> None:
        clock.now = now
        readers.deliver([(name, Delta([1], "x"))])

    for name, now in (("a", 0.0), ("b", 0.03)):
        write(name, now)  # the first token, for which nobody waits
        assert (await anext(streams[name])).token_ids == [1]
        write(name, now + 0.01)
    reading = {name: asyncio.ensure_future(anext(stream)) for name, stream in streams.items()}
    clock.now = 0.05
    await reading["a"]
    for _ in range(5):
        await asyncio.sleep(0)
    assert not reading["b"].done()
    clock.now = 0.08
    await reading["b"]
    write("a", 0.09)  # `a` was woken at 0.05
    write("a", 0.1)
    assert (await anext(streams["a"])).token_ids == [1, 1]


def test_every_end_is_one_line_in_the_log(
    model: FakeModel, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "server")

    async def main() -> None:
        async with running(model, settings) as engine:
            await read(engine.submit("hello", request_id="one"))
            await engine.submit("hello", request_id="two").aclose()

    asyncio.run(main())
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert " stop: prompt 7, cached 0, generated 5 tokens, first " in lines[0]
    assert lines[0].endswith("request one")
    assert " abort: prompt 7, cached 0, generated 0 tokens, first " in lines[1]
    assert lines[1].endswith("request two")


@in_loop
async def test_a_lagging_reader_holds_nobody_up(model: FakeModel, settings: Settings) -> None:
    async with running(model, settings) as engine:
        lagging = engine.submit("x" * 100)
        assert await read(engine.submit("y" * 100)) == "y" * 100
        await until(lambda: is_idle(engine))
        deltas = [delta async for delta in lagging]
        assert [delta.text for delta in deltas] == ["x" * 100]
