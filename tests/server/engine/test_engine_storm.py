import asyncio

import pytest
from hypothesis import given, strategies
from hypothesis import settings as hypothesis_settings

from causalrn.model.state import RaggedBatch
from causalrn.server.engine.engine import Engine
from causalrn.server.engine.generation import GenerationParams
from causalrn.server.errors import (
    DeadlineExceededError,
    EngineError,
    InvalidRequestError,
    OverloadedError,
)
from tests.server.conftest import pool_of
from tests.server.engine.running import running, until
from tests.server.fake_model import FakeModel
from tests.server.in_loop import in_loop
from tests.server.live_server import is_idle

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
@in_loop
async def test_after_any_storm_nothing_is_held(storm: list[tuple[str, int, int]]) -> None:
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

    settings = pool_of(20)
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
