"""Steps that do not end."""

import asyncio
import time

import pytest

from causalrn.server.errors import EngineError, NotReadyError
from tests.server.conftest import Gate, make_settings
from tests.server.engine.running import read, running, until
from tests.server.fake_model import FakeModel
from tests.server.in_loop import in_loop
from tests.server.live_server import is_idle


@in_loop
async def test_a_stuck_step_is_not_ready_and_leaves_nobody_hanging(
    model: FakeModel, gate: Gate
) -> None:
    async with running(model, make_settings(stall_seconds=1.0)) as engine:
        await asyncio.sleep(1.2)  # to be idle for longer than that is no stall
        model.decoder.before_extend = gate
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


@in_loop
async def test_a_long_request_that_moves_is_no_stall(model: FakeModel) -> None:
    async with (
        running(model, make_settings(stall_seconds=1.0)) as engine,
    ):
        model.decoder.before_extend = lambda _: time.sleep(0.05)
        async with engine.submit("x" * 30) as stream:
            began = time.monotonic()
            async for _ in stream:
                engine.check_ready()
        assert time.monotonic() - began > 1.0
