"""Models that are unloaded while others are served."""

import asyncio

import pytest

from causalrn.server.engine.generation import GenerationParams
from causalrn.server.engine.pooled_sessions import PooledSessions
from causalrn.server.errors import (
    DefaultModelError,
    EngineError,
    ModelNotFoundError,
    ModelUnloadedError,
    NotReadyError,
)
from tests.server.conftest import Gate
from tests.server.engine.running import read, running_engines, statuses, until
from tests.server.in_loop import in_loop
from tests.server.shelf import Shelf
from tests.server.steps import die


@in_loop
async def test_unloading_lets_running_requests_finish(shelf: Shelf, gate: Gate) -> None:
    async with running_engines(shelf, shelf.settings("a", "b", drain_seconds=30)) as engines:
        engine = engines.get("b")
        shelf.models["b"].decoder.before_extend = gate
        stream = engine.submit("hello")
        await until(gate.reached.is_set)
        unloading = asyncio.create_task(engines.unload("b"))
        await until(lambda: "b" not in [engine.model.name for engine in engines])
        assert await statuses(engines) == {"a": "serving", "b": "unloading", "c": "available"}
        with pytest.raises(ModelNotFoundError):
            engines.get("b")
        with pytest.raises(ModelUnloadedError, match="b is being unloaded"):
            engine.submit("late")
        with pytest.raises(ModelNotFoundError):
            await asyncio.gather(engines.unload("nobody"))
        engines.check_ready()
        assert len(engines.metrics) == 2
        gate.open()
        assert await read(stream) == "hello"
        await unloading
        assert await statuses(engines) == {"a": "serving", "b": "available", "c": "available"}
        with pytest.raises(ModelNotFoundError):
            await engines.unload("b")
        assert len(engines.metrics) == 1


@in_loop
async def test_requests_that_outlast_the_drain_end_with_an_error(shelf: Shelf, gate: Gate) -> None:
    async with running_engines(shelf, shelf.settings("a", "b", drain_seconds=0.05)) as engines:
        shelf.models["b"].decoder.before_extend = gate
        engine = engines.get("b")
        stream = engine.submit("hello")
        ticket = engine.admit("admitted", GenerationParams())
        await until(gate.reached.is_set)
        unloading = asyncio.create_task(engines.unload("b"))
        with pytest.raises(ModelUnloadedError, match="unloaded before the request"):
            await read(stream)
        gate.open()
        await unloading
        with pytest.raises(ModelUnloadedError, match="unloaded before the request"):
            await read(engine.enqueue(ticket))
        assert engine.reserved_bytes == 0


@in_loop
async def test_the_default_model_cannot_be_unloaded(shelf: Shelf) -> None:
    async with running_engines(shelf, shelf.settings("a", "b")) as engines:
        with pytest.raises(DefaultModelError, match="a is the default model"):
            await engines.unload("a")
        assert await read(engines.get(None).submit("hello")) == "hello"


@in_loop
async def test_a_call_of_an_engine_that_was_unloaded_does_nothing(shelf: Shelf) -> None:
    async with running_engines(shelf, shelf.settings("a", "b")) as engines:
        engine = engines.get("b")
        assert await engines.call(engine, PooledSessions.ids) == []
        await engines.unload("b")
        assert await engines.call(engine, PooledSessions.ids) is None


@in_loop
async def test_a_call_of_an_engine_that_died_while_it_was_served_is_an_error(shelf: Shelf) -> None:
    async with running_engines(shelf, shelf.settings("a", "b")) as engines:
        shelf.models["b"].decoder.before_extend = die
        with pytest.raises(EngineError):
            await read(engines.get("b").submit("hello"))
        with pytest.raises(NotReadyError, match="the engine of b is not running"):
            await engines.call(engines.get("b"), PooledSessions.ids)
        await engines.unload("b")
