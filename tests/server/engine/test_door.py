"""An engine that is about to end."""

import asyncio
import threading

import pytest

from causalrn.server.engine.door import Door
from causalrn.server.errors import ModelUnloadedError, ShuttingDownError
from causalrn.server.settings import Settings
from tests.server.conftest import Gate
from tests.server.engine.running import read, running, until
from tests.server.fake_model import FakeModel
from tests.server.in_loop import in_loop


@in_loop
async def test_draining_refuses_new_work_and_finishes_the_rest(
    model: FakeModel, settings: Settings, gate: Gate
) -> None:
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


@in_loop
async def test_stopping_fails_what_is_not_finished(
    model: FakeModel, settings: Settings, gate: Gate
) -> None:
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


def test_a_door_is_open_until_it_is_closed() -> None:
    door = Door("fake", drain_seconds=5)
    door.check()
    door.close()
    with pytest.raises(ShuttingDownError, match="the server is shutting down") as refused:
        door.check()
    assert refused.value.retry_after == 6  # a second after the last request has ended


def test_a_model_that_is_unloaded_says_so_even_when_the_server_ends() -> None:
    door = Door("fake", drain_seconds=5)
    door.close(unloading=True)
    door.close()
    with pytest.raises(ModelUnloadedError, match="the model fake is being unloaded"):
        door.check()
    assert isinstance(door.farewell(), ModelUnloadedError)


def test_requests_that_are_cut_off_are_told_why() -> None:
    door = Door("fake", drain_seconds=5)
    door.close()
    assert isinstance(door.farewell(), ShuttingDownError)
    assert door.farewell().message == "the server shut down before the request was finished"
