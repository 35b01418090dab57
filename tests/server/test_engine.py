import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from model.sampling import SamplingParams
from model.state import RaggedBatch
from server.engine import Engine
from server.errors import (
    EngineError,
    InvalidRequestError,
    NotReadyError,
    OverloadedError,
    ShuttingDownError,
)
from server.settings import Settings
from server.token_stream import TokenStream
from tests.server.conftest import Gate, make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import IDLE


@asynccontextmanager
async def running(model: FakeModel, settings: Settings) -> AsyncIterator[Engine]:
    engine = Engine(model, settings)
    engine.start()
    try:
        yield engine
    finally:
        await engine.stop()
        assert engine.usage == IDLE
        assert model.decoder.misuses == []


async def read(stream: TokenStream) -> str:
    async with stream:
        return "".join([delta.text async for delta in stream])


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110  # what it waits for happens on another thread
            await asyncio.sleep(0.001)


def test_many_requests_at_once_are_all_copied(model: FakeModel, settings: Settings) -> None:
    async def main() -> None:
        async with running(model, settings) as engine:
            texts = [f"text number {i} " * (i % 5 + 1) for i in range(24)]
            answers = await asyncio.gather(*(read(engine.submit(text)) for text in texts))
            assert answers == texts
            assert max(n for n, _ in model.decoder.batches) == 8
            assert engine.usage == IDLE

    asyncio.run(main())


def test_ids_are_as_good_as_text(model: FakeModel, settings: Settings) -> None:
    async def main() -> None:
        async with running(model, settings) as engine, engine.submit([104, 105]) as stream:
            ids = [token_id async for delta in stream for token_id in delta.token_ids]
            assert ids == [104, 105]
            assert stream.n_prompt_tokens == 4

    asyncio.run(main())


def test_by_default_a_copy_ends_at_its_limit_of_tokens(model: FakeModel) -> None:
    async def main() -> None:
        async with (
            running(model, make_settings(max_tokens=3)) as engine,
            engine.submit("hello") as stream,
        ):
            deltas = [delta async for delta in stream]
            assert "".join(delta.text for delta in deltas) == "hel"
            assert deltas[-1].finish_reason == "length"

    asyncio.run(main())


def test_seeded_draws_do_not_depend_on_company(model: FakeModel, settings: Settings) -> None:
    hot = SamplingParams(temperature=2.0, seed=7)

    async def main() -> None:
        async with running(model, settings) as engine:
            alone = await read(engine.submit("some text", max_tokens=40, sampling=hot))
            together, *_ = await asyncio.gather(
                read(engine.submit("some text", max_tokens=40, sampling=hot)),
                *(read(engine.submit("other", sampling=hot)) for _ in range(7)),
            )
            other_seed = SamplingParams(temperature=2.0, seed=8)
            assert together == alone
            assert alone != await read(
                engine.submit("some text", max_tokens=40, sampling=other_seed)
            )

    asyncio.run(main())


def test_closing_frees_the_place_before_the_next_step(
    model: FakeModel, settings: Settings, gate: Gate
) -> None:
    async def main() -> None:
        async with running(model, settings) as engine:
            stream = engine.submit("x" * 300)
            await anext(stream)
            assert engine.usage.pages_used == 38
            model.decoder.before_extend = gate
            await until(gate.reached.is_set)
            n_steps = len(model.decoder.batches)
            await stream.aclose()
            await stream.aclose()
            gate.open()
            await until(lambda: engine.usage == IDLE)
            assert len(model.decoder.batches) == n_steps + 1

    asyncio.run(main())


def test_a_waiting_request_can_leave(model: FakeModel, settings: Settings, gate: Gate) -> None:
    async def main() -> None:
        async with running(model, settings) as engine:
            model.decoder.before_extend = gate
            first = asyncio.create_task(read(engine.submit("x" * 400)))
            await until(gate.reached.is_set)
            second = engine.submit("y" * 400)
            await second.aclose()
            gate.open()
            assert await first == "x" * 400

    asyncio.run(main())


def test_a_full_queue_is_refused_and_empties_again(
    model: FakeModel, settings: Settings, gate: Gate
) -> None:
    async def main() -> None:
        async with running(model, settings) as engine:
            model.decoder.before_extend = gate
            streams = [engine.submit("hello") for _ in range(8 + 16)]
            with pytest.raises(OverloadedError) as refused:
                engine.submit("hello")
            assert refused.value.headers == {"retry-after": "1"}
            gate.open()
            assert await asyncio.gather(*map(read, streams)) == ["hello"] * 24
            assert await read(engine.submit("hello")) == "hello"

    asyncio.run(main())


def test_a_refused_request_takes_no_place(model: FakeModel, settings: Settings) -> None:
    async def main() -> None:
        async with running(model, settings) as engine:
            for _ in range(100):
                with pytest.raises(InvalidRequestError):
                    engine.submit([256])
            assert engine.usage == IDLE
            await engine.drain(5)

    asyncio.run(main())


def test_a_failed_step_raises_and_the_next_request_works(
    model: FakeModel, settings: Settings
) -> None:
    failures = iter([True])

    def fail_once(_: RaggedBatch) -> None:
        if next(failures, False):
            raise RuntimeError("injected")

    async def main() -> None:
        async with running(model, settings) as engine:
            model.decoder.before_extend = fail_once
            with pytest.raises(EngineError):
                await read(engine.submit("hello"))
            assert await read(engine.submit("hello")) == "hello"
            engine.check_ready()

    asyncio.run(main())


def test_a_dead_thread_fails_everyone_and_is_not_ready(
    model: FakeModel, settings: Settings
) -> None:
    def die(_: RaggedBatch) -> None:
        raise SystemExit

    async def main() -> None:
        engine = Engine(model, settings)
        engine.start()
        model.decoder.before_extend = die
        streams = [engine.submit("hello") for _ in range(3)]
        for stream in streams:
            with pytest.raises(EngineError):
                await read(stream)
        with pytest.raises(NotReadyError):
            engine.check_ready()
        with pytest.raises(NotReadyError):
            engine.submit("hello")
        await engine.stop()

    asyncio.run(main())


def test_a_stuck_step_is_not_ready_until_it_moves(model: FakeModel, gate: Gate) -> None:
    async def main() -> None:
        async with running(model, make_settings(stall_seconds=0.5)) as engine:
            time.sleep(0.6)  # noqa: ASYNC251  # to be idle for longer than that is no stall
            model.decoder.before_extend = gate
            stream = engine.submit("hello")
            engine.check_ready()
            await until(gate.reached.is_set)
            time.sleep(0.6)  # noqa: ASYNC251
            with pytest.raises(NotReadyError, match="made no step"):
                engine.check_ready()
            gate.open()
            assert await read(stream) == "hello"
            engine.check_ready()

    asyncio.run(main())


def test_a_long_request_that_moves_is_no_stall(model: FakeModel) -> None:
    async def main() -> None:
        async with (
            running(model, make_settings(stall_seconds=1.0)) as engine,
            engine.submit("x" * 30) as stream,
        ):
            model.decoder.before_extend = lambda _: time.sleep(0.05)
            async for _ in stream:
                engine.check_ready()

    asyncio.run(main())


def test_draining_refuses_new_work_and_finishes_the_rest(
    model: FakeModel, settings: Settings, gate: Gate
) -> None:
    async def main() -> None:
        async with running(model, settings) as engine:
            model.decoder.before_extend = gate
            reading = [asyncio.create_task(read(engine.submit("x" * 50))) for _ in range(12)]
            draining = asyncio.create_task(engine.drain(20))
            await asyncio.sleep(0)
            await until(gate.reached.is_set)
            with pytest.raises(ShuttingDownError) as refused:
                engine.submit("hello")
            assert refused.value.headers == {"retry-after": "6"}
            with pytest.raises(ShuttingDownError):
                engine.check_ready()
            assert not draining.done()
            gate.open()
            await draining
            assert await asyncio.gather(*reading) == ["x" * 50] * 12

    asyncio.run(main())


def test_stopping_fails_what_is_not_finished(
    model: FakeModel, settings: Settings, gate: Gate
) -> None:
    async def main() -> None:
        async with running(model, settings) as engine:
            stream = engine.submit("hello")
            first = await anext(stream)
            assert first.text.startswith("h")
            model.decoder.before_extend = gate
            other = engine.submit("world")
            await until(gate.reached.is_set)
            await engine.drain(0.01)
            threading.Timer(0.05, gate.open).start()
            await engine.stop()
            with pytest.raises(ShuttingDownError):
                await read(other)

    asyncio.run(main())


def test_a_lagging_reader_holds_nobody_up(model: FakeModel, settings: Settings) -> None:
    async def main() -> None:
        async with running(model, settings) as engine:
            lagging = engine.submit("x" * 100)
            assert await read(engine.submit("y" * 100)) == "y" * 100
            await until(lambda: engine.usage == IDLE)
            deltas = [delta async for delta in lagging]
            assert [delta.text for delta in deltas] == ["x" * 100]

    asyncio.run(main())
