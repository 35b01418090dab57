import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, strategies
from hypothesis import settings as hypothesis_settings

from model.sampling import SamplingParams
from model.state import RaggedBatch
from server.engine.engine import Engine
from server.engine.generation import GenerationParams
from server.engine.metrics import expose
from server.engine.token_stream import TokenStream
from server.errors import (
    DeadlineExceededError,
    EngineError,
    InvalidRequestError,
    NotReadyError,
    OverloadedError,
    ShuttingDownError,
)
from server.settings import Settings
from tests.server.conftest import PAGE, SLOT, Gate, make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import is_idle


@asynccontextmanager
async def running(model: FakeModel, settings: Settings) -> AsyncIterator[Engine]:
    engine = Engine(model, settings)
    engine.start()
    try:
        yield engine
    finally:
        await engine.stop()
        assert is_idle(engine)
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
            assert is_idle(engine)

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
    def hot(seed: int, max_tokens: int | None = None) -> GenerationParams:
        return GenerationParams(max_tokens, SamplingParams(temperature=2.0, seed=seed))

    async def main() -> None:
        async with running(model, settings) as engine:
            alone = await read(engine.submit("some text", hot(7, 40)))
            together, *_ = await asyncio.gather(
                read(engine.submit("some text", hot(7, 40))),
                *(read(engine.submit("other", hot(7))) for _ in range(7)),
            )
            assert together == alone
            assert alone != await read(engine.submit("some text", hot(8, 40)))

    asyncio.run(main())


def test_closing_frees_the_place_before_the_next_step(
    model: FakeModel, settings: Settings, gate: Gate
) -> None:
    async def main() -> None:
        async with running(model, settings) as engine:
            n_steps = 0

            def hold_the_twelfth(batch: RaggedBatch) -> None:
                nonlocal n_steps
                n_steps += 1
                if n_steps == 12:  # ten for the prompt
                    gate(batch)

            model.decoder.before_extend = hold_the_twelfth
            stream = engine.submit("x" * 300)
            await anext(stream)
            await until(gate.reached.is_set)
            assert engine.usage.pages_used == 19
            await stream.aclose()
            await stream.aclose()
            gate.open()
            await until(lambda: is_idle(engine))
            assert n_steps == 12

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
            assert refused.value.retry_after == 1
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
            assert is_idle(engine)
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
    model: FakeModel, settings: Settings, gate: Gate
) -> None:
    def die(batch: RaggedBatch) -> None:
        gate(batch)
        raise SystemExit

    async def main() -> None:
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

    asyncio.run(main())


def test_a_stuck_step_is_not_ready_and_leaves_nobody_hanging(model: FakeModel, gate: Gate) -> None:
    async def main() -> None:
        async with running(model, make_settings(stall_seconds=1.0)) as engine:
            await asyncio.sleep(1.2)  # to be idle for longer than that is no stall
            model.decoder.before_extend = gate
            with engine._mail.changed:  # nor before the thread has noticed that there is work
                streams = [engine.submit("hello") for _ in range(20)]
                engine.check_ready()
            await until(gate.reached.is_set)
            began = time.monotonic()
            for stream in streams:
                with pytest.raises(EngineError, match="is stuck"):
                    await read(stream)
            assert time.monotonic() - began < 10
            with pytest.raises(NotReadyError, match="made no step"):
                engine.check_ready()
            gate.open()
            await until(lambda: is_idle(engine))
            assert await read(engine.submit("hello")) == "hello"
            engine.check_ready()

    asyncio.run(main())


def test_a_deadline_ends_a_request_even_when_a_step_is_stuck(
    model: FakeModel, settings: Settings, gate: Gate
) -> None:
    async def main() -> None:
        async with running(model, settings) as engine:
            in_time = GenerationParams(timeout=20)
            assert await read(engine.submit("hello", in_time)) == "hello"
            model.decoder.before_extend = gate
            stream = engine.submit("hello", GenerationParams(timeout=0.05))
            with pytest.raises(DeadlineExceededError, match=r"longer than 0\.05 s"):
                await read(stream)
            gate.open()
            await until(lambda: is_idle(engine))

    asyncio.run(main())


def test_readers_of_many_streams_get_every_token_though_no_other_step_comes(
    model: FakeModel, settings: Settings, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Steps come faster than anybody may be woken, on any machine.
    monkeypatch.setattr("server.engine.readers._READER_SECONDS", 0.1)

    async def main() -> None:
        async with running(model, settings) as engine:
            texts = [""] * 8
            n_steps = 0

            def hold_the_fifth(batch: RaggedBatch) -> None:
                nonlocal n_steps
                n_steps += 1
                if n_steps == 5:
                    gate(batch)

            model.decoder.before_extend = hold_the_fifth
            streams = [engine.submit("hello") for _ in range(8)]

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

    asyncio.run(main())


def test_samples_share_a_stream_and_end_it_together(model: FakeModel, settings: Settings) -> None:
    async def main() -> None:
        async with running(model, settings) as engine:
            texts = ["", "", ""]
            async with engine.submit("hello", GenerationParams(n=3)) as stream:
                async for delta in stream:
                    texts[delta.index] += delta.text
            assert texts == ["hello"] * 3
            assert stream.n_completion_tokens == 15

    asyncio.run(main())


def test_priority_decides_who_waits(model: FakeModel, gate: Gate) -> None:
    order = []

    async def note(name: str, stream: TokenStream) -> None:
        await read(stream)
        order.append(name)

    async def main() -> None:
        async with running(model, make_settings(max_running=1)) as engine:
            model.decoder.before_extend = gate
            first = asyncio.create_task(note("first", engine.submit("hello")))
            await until(gate.reached.is_set)
            rest = [
                asyncio.create_task(
                    note(str(priority), engine.submit("x", GenerationParams(priority=priority)))
                )
                for priority in (1, 0, -1)
            ]
            gate.open()
            await asyncio.gather(first, *rest)
            assert order == ["first", "-1", "0", "1"]

    asyncio.run(main())


def test_bytes_of_the_pool_are_reserved(model: FakeModel, gate: Gate) -> None:
    async def main() -> None:
        # 64 pages; one request takes 51 of them at most.
        async with running(model, make_settings(max_reserved_pools=2.0)) as engine:
            model.decoder.before_extend = gate
            streams = [engine.submit("x" * 400) for _ in range(2)]
            reserved = engine.reserved_bytes
            with pytest.raises(OverloadedError):
                engine.submit("x" * 400)
            assert engine.reserved_bytes == reserved
            gate.open()
            assert await asyncio.gather(*map(read, streams)) == ["x" * 400] * 2

    asyncio.run(main())


def test_metrics_are_exact(model: FakeModel, settings: Settings, gate: Gate) -> None:
    def figures(engine: Engine) -> dict[str, float]:
        lines = expose([engine.metrics]).decode().splitlines()
        pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
        label = 'model_name="fake-copy"'
        assert all(label in name for name, _ in pairs)
        short = (name.removeprefix("causalrn:").replace(label, "") for name, _ in pairs)
        names = (name.replace("{,", "{").replace("{}", "").replace(",}", "}") for name in short)
        return dict(zip(names, (float(value) for _, value in pairs), strict=True))

    def fail(_: RaggedBatch) -> None:
        raise RuntimeError("injected")

    async def main() -> None:
        async with running(model, settings) as engine:
            assert await read(engine.submit("hello")) == "hello"
            several = GenerationParams(max_tokens=2, n=2)
            assert sorted(await read(engine.submit("hello", several))) == list("eehh")
            model.decoder.before_extend = gate
            left = engine.submit("world")
            await until(gate.reached.is_set)
            during = figures(engine)
            await left.aclose()
            model.decoder.before_extend = fail
            gate.open()
            with pytest.raises(EngineError):
                await read(engine.submit("again"))
            await until(lambda: is_idle(engine))
            after = figures(engine)
        assert (during["num_requests_running"], during["num_requests_waiting"]) == (1, 0)
        assert during["pool_usage_perc"] == 1 / 64
        for name, value in {
            "num_requests_running": 0,
            "num_requests_waiting": 0,
            "pool_usage_perc": 0,
            'request_success_total{finished_reason="stop"}': 1,
            'request_success_total{finished_reason="length"}': 1,
            'request_success_total{finished_reason="abort"}': 1,
            'request_success_total{finished_reason="error"}': 1,
            "prompt_tokens_total": 14,
            "generation_tokens_total": 9,
            "time_to_first_token_seconds_count": 2,
            "inter_token_latency_seconds_count": 6,
            "e2e_request_latency_seconds_count": 4,
            "request_queue_time_seconds_count": 4,
            "request_prefill_time_seconds_count": 2,
            "request_decode_time_seconds_count": 2,
            "num_preemptions_total": 0,
        }.items():
            assert after[name] == value, name
        assert (
            after['iteration_tokens_total_bucket{le="+Inf"}']
            == after["iteration_tokens_total_count"]
        )
        assert after["iteration_tokens_total_sum"] >= 14

    asyncio.run(main())


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


def test_a_long_request_that_moves_is_no_stall(model: FakeModel) -> None:
    async def main() -> None:
        async with (
            running(model, make_settings(stall_seconds=1.0)) as engine,
        ):
            model.decoder.before_extend = lambda _: time.sleep(0.05)
            async with engine.submit("x" * 30) as stream:
                began = time.monotonic()
                async for _ in stream:
                    engine.check_ready()
            assert time.monotonic() - began > 1.0

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
            assert refused.value.retry_after == 6
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
            await until(lambda: is_idle(engine))
            deltas = [delta async for delta in lagging]
            assert [delta.text for delta in deltas] == ["x" * 100]

    asyncio.run(main())


operations = strategies.lists(
    strategies.tuples(
        strategies.sampled_from(["read", "read", "close", "cancel", "late", "refuse", "fail"]),
        strategies.integers(1, 60),
        strategies.sampled_from([1, 1, 1, 3]),
    ),
    min_size=1,
    max_size=25,
)


@hypothesis_settings(max_examples=30, deadline=None)
@given(operations)
def test_after_any_storm_nothing_is_held(storm: list[tuple[str, int, int]]) -> None:
    """Readers that stay, leave, are cancelled or late, refusals and failing steps, all at once."""
    model = FakeModel()
    broken = 0

    def maybe_fail(_: RaggedBatch) -> None:
        nonlocal broken
        if broken:
            broken -= 1
            raise RuntimeError("injected")

    async def one(engine: Engine, kind: str, length: int, n: int) -> None:
        nonlocal broken
        text = (f"{kind} {length} " * 60)[:length]
        if kind == "fail":
            broken += 1
        if kind == "refuse":
            with pytest.raises(InvalidRequestError):
                engine.submit("x" * 5000)
            return
        timeout = 0.002 if kind == "late" else None
        try:
            stream = engine.submit(text, GenerationParams(n=n, timeout=timeout))
        except OverloadedError:
            return
        texts = [""] * n
        try:
            async with stream:
                async for delta in stream:
                    texts[delta.index] += delta.text
                    if kind == "close":
                        return
        except (DeadlineExceededError, EngineError):
            assert all(text.startswith(part) for part in texts)
            return
        assert texts == [text] * n

    async def main() -> None:
        settings = make_settings(pool_bytes=20 * PAGE + 8 * SLOT)
        async with running(model, settings) as engine:
            model.decoder.before_extend = maybe_fail
            tasks = [asyncio.create_task(one(engine, *request)) for request in storm]
            for i, (task, (kind, length, _)) in enumerate(zip(tasks, storm, strict=True)):
                if kind == "cancel":
                    asyncio.get_running_loop().call_later(length / 10_000, task.cancel)
                if i % 4 == 0:
                    await asyncio.sleep(0)
            await asyncio.gather(*tasks, return_exceptions=True)
            for task in tasks:
                if not task.cancelled() and (error := task.exception()) is not None:
                    raise error
            await until(lambda: is_idle(engine))
            assert engine.n_streams == 0
            # This task and the engine's own watch are what is left.
            assert len(asyncio.all_tasks()) == 2

    asyncio.run(main())
