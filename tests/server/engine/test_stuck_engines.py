"""Several engines, one of which is stuck or dead."""

import pytest

from causalrn.server.errors import EngineError, ModelUnloadedError, NotReadyError
from tests.server.conftest import Gate
from tests.server.engine.running import is_ready, read, running_engines, until
from tests.server.in_loop import in_loop
from tests.server.live_server import is_idle
from tests.server.shelf import Shelf
from tests.server.steps import die


@in_loop
async def test_a_stuck_engine_is_named_and_fails_all_streams(shelf: Shelf, gate: Gate) -> None:
    async with running_engines(shelf, shelf.settings("a", "b", stall_seconds=1.0)) as engines:
        shelf.models["b"].decoder.before_extend = gate
        holder = engines.get("b").submit("hello")
        await until(gate.reached.is_set)
        waiting = engines.get("a").submit("hello")
        for stream in (holder, waiting):
            with pytest.raises(EngineError, match="stuck"):
                await read(stream)
        with pytest.raises(NotReadyError, match="the engine of b has work, but made no step"):
            engines.check_ready()
        gate.open()
        await until(lambda: all(map(is_idle, engines)))
        engines.check_ready()
        for engine in engines:
            assert await read(engine.submit("hello")) == "hello"


@in_loop
async def test_a_stuck_engine_can_be_unloaded(
    shelf: Shelf, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("causalrn.server.engine.engine_thread._JOIN_SECONDS", 0.1)

    settings = shelf.settings("a", "b", stall_seconds=1.0, drain_seconds=0)
    async with running_engines(shelf, settings) as engines:
        shelf.models["b"].decoder.before_extend = gate
        stream = engines.get("b").submit("hello")
        await until(gate.reached.is_set)
        await engines.unload("b")
        with pytest.raises(ModelUnloadedError):
            await read(stream)
        # It still has the turnstile, and `a` can make no step.
        await until(lambda: not is_ready(engines))
        with pytest.raises(NotReadyError, match="a step of b has not ended"):
            engines.check_ready()
        gate.open()
        await until(lambda: is_ready(engines))
        assert await read(engines.default.submit("hello")) == "hello"


@in_loop
async def test_a_model_whose_thread_died_can_be_loaded_again(shelf: Shelf) -> None:
    async with running_engines(shelf, shelf.settings("a", "b")) as engines:
        shelf.models["b"].decoder.before_extend = die
        with pytest.raises(EngineError):
            await read(engines.get("b").submit("hello"))
        with pytest.raises(NotReadyError, match="the engine of b is not running"):
            engines.check_ready()
        assert await read(engines.get("a").submit("hello")) == "hello"
        await engines.unload("b")
        engines.check_ready()
        await engines.load("b")
        assert await read(engines.get("b").submit("hello")) == "hello"
