"""Requests in, streams of tokens out."""

import asyncio

import pytest

from causalrn.model.sampling import SamplingParams
from causalrn.server.engine.generation import GenerationParams
from causalrn.server.engine.token_stream import TokenStream
from causalrn.server.errors import EngineError, InvalidRequestError, OverloadedError
from causalrn.server.settings import Settings
from tests.server.conftest import Gate, make_settings
from tests.server.engine.running import read, running, until
from tests.server.fake_model import FakeModel
from tests.server.in_loop import in_loop
from tests.server.live_server import is_idle
from tests.server.steps import AtStep, fail


@in_loop
async def test_many_requests_at_once_are_all_copied(model: FakeModel, settings: Settings) -> None:
    async with running(model, settings) as engine:
        texts = [f"text number {i} " * (i % 5 + 1) for i in range(24)]
        answers = await asyncio.gather(*(read(engine.submit(text)) for text in texts))
        assert answers == texts
        assert max(n for n, _ in model.decoder.batches) == 8
        assert is_idle(engine)


@in_loop
async def test_ids_are_as_good_as_text(model: FakeModel, settings: Settings) -> None:
    async with running(model, settings) as engine, engine.submit([104, 105]) as stream:
        ids = [token_id async for delta in stream for token_id in delta.token_ids]
        assert ids == [104, 105]
        assert stream.n_prompt_tokens == 4


@in_loop
async def test_a_copy_ends_early_only_if_it_is_asked_to(model: FakeModel) -> None:
    async with running(model, make_settings(max_tokens=5)) as engine:
        with pytest.raises(InvalidRequestError, match="takes at most 4 if the answer is to be"):
            engine.submit("hello")
        async with engine.submit("hello", GenerationParams(max_tokens=3)) as stream:
            deltas = [delta async for delta in stream]
        assert "".join(delta.text for delta in deltas) == "hel"
        assert deltas[-1].finish_reason == "length"
        assert await read(engine.submit("hell")) == "hell"


@in_loop
async def test_seeded_draws_do_not_depend_on_company(model: FakeModel, settings: Settings) -> None:
    def hot(seed: int, max_tokens: int | None = None) -> GenerationParams:
        return GenerationParams(max_tokens, SamplingParams(temperature=2.0, seed=seed))

    async with running(model, settings) as engine:
        alone = await read(engine.submit("some text", hot(7, 40)))
        together, *_ = await asyncio.gather(
            read(engine.submit("some text", hot(7, 40))),
            *(read(engine.submit("other", hot(7))) for _ in range(7)),
        )
        assert together == alone
        assert alone != await read(engine.submit("some text", hot(8, 40)))


@in_loop
async def test_closing_frees_the_place_before_the_next_step(
    model: FakeModel, settings: Settings, gate: Gate
) -> None:
    async with running(model, settings) as engine:
        steps = model.decoder.before_extend = AtStep(12, gate)  # ten for the prompt
        stream = engine.submit("x" * 300)
        await anext(stream)
        await until(gate.reached.is_set)
        assert engine.usage.pages_used == 19
        await stream.aclose()
        await stream.aclose()
        gate.open()
        await until(lambda: is_idle(engine))
        assert steps.n_steps == 12


@in_loop
async def test_a_waiting_request_can_leave(
    model: FakeModel, settings: Settings, gate: Gate
) -> None:
    async with running(model, settings) as engine:
        model.decoder.before_extend = gate
        first = asyncio.create_task(read(engine.submit("x" * 400)))
        await until(gate.reached.is_set)
        second = engine.submit("y" * 400)
        await second.aclose()
        gate.open()
        assert await first == "x" * 400


@in_loop
async def test_a_full_queue_is_refused_and_empties_again(
    model: FakeModel, settings: Settings, gate: Gate
) -> None:
    async with running(model, settings) as engine:
        model.decoder.before_extend = gate
        streams = [engine.submit("hello") for _ in range(8 + 16)]
        with pytest.raises(OverloadedError) as refused:
            engine.submit("hello")
        assert refused.value.retry_after == 1
        gate.open()
        assert await asyncio.gather(*map(read, streams)) == ["hello"] * 24
        assert await read(engine.submit("hello")) == "hello"


@in_loop
async def test_a_refused_request_takes_no_place(model: FakeModel, settings: Settings) -> None:
    async with running(model, settings) as engine:
        for _ in range(100):
            with pytest.raises(InvalidRequestError):
                engine.submit([256])
        assert is_idle(engine)
        await engine.drain(5)


@in_loop
async def test_a_failed_step_raises_and_the_next_request_works(
    model: FakeModel, settings: Settings
) -> None:
    async with running(model, settings) as engine:
        model.decoder.before_extend = AtStep(1, fail)
        with pytest.raises(EngineError):
            await read(engine.submit("hello"))
        assert await read(engine.submit("hello")) == "hello"
        engine.check_ready()


@in_loop
async def test_samples_share_a_stream_and_end_it_together(
    model: FakeModel, settings: Settings
) -> None:
    async with running(model, settings) as engine:
        texts = ["", "", ""]
        async with engine.submit("hello", GenerationParams(n=3)) as stream:
            async for delta in stream:
                texts[delta.index] += delta.text
        assert texts == ["hello"] * 3
        assert stream.n_completion_tokens == 15


@in_loop
async def test_priority_decides_who_waits(model: FakeModel, gate: Gate) -> None:
    order = []

    async def note(name: str, stream: TokenStream) -> None:
        await read(stream)
        order.append(name)

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


@in_loop
async def test_bytes_of_the_pool_are_reserved(model: FakeModel, gate: Gate) -> None:
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
