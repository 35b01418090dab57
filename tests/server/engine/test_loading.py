"""Models that are loaded while others are served."""

import asyncio
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from causalrn.model.checkpoint import CheckpointError
from causalrn.server.errors import ModelLoadError, ModelNotFoundError, ShuttingDownError
from tests.server.conftest import Gate
from tests.server.engine.running import (
    engine_threads,
    read,
    running_engines,
    statuses,
    until,
    until_status,
)
from tests.server.fake_model import FakeModel
from tests.server.in_loop import in_loop
from tests.server.shelf import Shelf


@pytest.fixture
def second_gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


def all_gone(things: list[weakref.ref[Any]]) -> bool:
    return not any(thing() for thing in things)


def gated(gate: Gate) -> Callable[[FakeModel], None]:
    """Hold the loading of `b` up."""

    def hold(model: FakeModel) -> None:
        if model.name == "b":
            gate(None)  # type: ignore[arg-type]

    return hold


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (CheckpointError("b/model.safetensors: truncated"), "b/model.safetensors: truncated"),
        (MemoryError("much too large"), "MemoryError: much too large"),
    ],
)
@in_loop
async def test_a_model_that_cannot_be_loaded_leaves_the_others_serving(
    shelf: Shelf, failure: Exception, reason: str
) -> None:
    def fail(model: FakeModel) -> None:
        if model.name == "b":
            raise failure

    shelf.before_load = fail
    async with running_engines(shelf, shelf.settings("a", "b", "c")) as engines:
        assert await statuses(engines) == {"a": "serving", "b": "failed", "c": "serving"}
        assert {info.error for info in await engines.overview()} == {None, reason}
        assert await read(engines.get("c").submit("hello")) == "hello"
        with pytest.raises(ModelLoadError, match=f"b cannot be served: {reason}"):
            await engines.load("b")
        engines.check_ready()
        shelf.before_load = lambda _: None
        info, is_new = await engines.load("b")
        assert (info.status, info.error, is_new) == ("serving", None, True)
        assert await read(engines.get("b").submit("hello")) == "hello"


@in_loop
async def test_a_warm_up_that_fails_leaves_nothing_behind(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pytest would keep what was logged, and with it all that led there.
    monkeypatch.setattr("causalrn.server.engine.engines.logger.disabled", True)

    def fail(_: object) -> None:
        raise RuntimeError("no such instruction")

    def break_steps(model: FakeModel) -> None:
        model.decoder.before_extend = fail

    async with running_engines(shelf, shelf.settings("a")) as engines:
        shelf.before_load = break_steps
        tasks = len(asyncio.all_tasks())
        for _ in range(3):
            with pytest.raises(ModelLoadError, match="RuntimeError: no such instruction"):
                await engines.load("b")
        await until(lambda: list(shelf.models) == ["a"])  # the loading thread may lag
        assert len(asyncio.all_tasks()) == tasks
        assert engine_threads() == ["engine a"]
        assert len(engines.metrics) == 1


@in_loop
async def test_a_model_that_does_not_fit_the_pool_is_not_served(shelf: Shelf) -> None:
    def widen(model: FakeModel) -> None:
        if model.name == "b":
            new_state = model.decoder.new_state
            many = 10_000

            def large(*, n_pages: int, page_size: int, n_slots: int, n_rows: int = 0) -> Any:
                return new_state(
                    n_pages=n_pages, page_size=page_size * many, n_slots=n_slots, n_rows=n_rows
                )

            model.decoder.new_state = large  # type: ignore[method-assign]

    shelf.before_load = widen
    async with running_engines(shelf, shelf.settings("a", "b")) as engines:
        (info,) = [info for info in await engines.overview() if info.name == "b"]
        assert info.status == "failed"
        assert "CAUSALRN_POOL_BYTES" in str(info.error)


@in_loop
async def test_streams_go_on_while_a_model_is_loaded(
    shelf: Shelf, gate: Gate, second_gate: Gate
) -> None:
    def hold(model: FakeModel) -> None:
        gate(None)  # type: ignore[arg-type]
        model.decoder.before_extend = second_gate

    async with running_engines(shelf, shelf.settings("a")) as engines:
        shelf.before_load = hold
        loading = asyncio.create_task(engines.load("b"))
        for held in (gate, second_gate):  # as it reads, and as it warms up
            await until(held.reached.is_set)
            assert await statuses(engines) == {
                "a": "serving", "b": "loading", "c": "available"
            }  # fmt: skip
            assert await read(engines.get("a").submit("hello")) == "hello"
            with pytest.raises(ModelNotFoundError):
                engines.get("b")
            engines.check_ready()
            held.open()
        info, is_new = await loading
        assert (info.status, is_new) == ("serving", True)
        assert await read(engines.get("b").submit("hello")) == "hello"


@in_loop
async def test_loads_and_unloads_come_one_after_the_other(shelf: Shelf, gate: Gate) -> None:
    async with running_engines(shelf, shelf.settings("a")) as engines:
        shelf.before_load = gated(gate)
        loading = asyncio.create_task(engines.load("b"))
        await until(gate.reached.is_set)
        unloading = asyncio.create_task(engines.unload("b"))
        other = asyncio.create_task(engines.load("c"))
        await until_status(engines, "c", "loading")
        await asyncio.sleep(0.1)  # in which it could begin
        assert shelf.n_loads == 2  # it waits, too, for memory and cores
        gate.open()
        assert (await loading)[1]
        await unloading
        assert (await other)[1]
        assert await statuses(engines) == {"a": "serving", "c": "serving", "b": "available"}


@in_loop
async def test_a_model_that_many_load_at_once_is_loaded_once(shelf: Shelf, gate: Gate) -> None:
    async with running_engines(shelf, shelf.settings("a")) as engines:
        shelf.before_load = gated(gate)
        loading = [asyncio.create_task(engines.load("b")) for _ in range(5)]
        await until(gate.reached.is_set)
        gate.open()
        assert sorted([(await task)[1] for task in loading]) == [False] * 4 + [True]
        assert shelf.n_loads == 2


@in_loop
async def test_a_load_goes_on_though_its_caller_leaves(shelf: Shelf, gate: Gate) -> None:
    async with running_engines(shelf, shelf.settings("a")) as engines:
        shelf.before_load = gated(gate)
        loading = asyncio.create_task(engines.load("b"))
        await until(gate.reached.is_set)
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        assert (await statuses(engines))["b"] == "loading"
        gate.open()
        assert (await engines.load("b"))[1] is False


@in_loop
async def test_twenty_loads_and_unloads_leave_nothing_behind(shelf: Shelf) -> None:
    async with running_engines(shelf, shelf.settings("a")) as engines:
        assert (await engines.load("b"))[1]
        await engines.unload("b")
        tasks = len(asyncio.all_tasks())
        gone: list[weakref.ref[Any]] = []
        for _ in range(20):
            await engines.load("b")
            engine = engines.get("b")
            assert await read(engine.submit("hello")) == "hello"
            decoder = shelf.models["b"].decoder
            gone += [weakref.ref(engine), weakref.ref(decoder), decoder.state]
            del engine, decoder
            await engines.unload("b")
            await until(partial(all_gone, gone))
        assert engine_threads() == ["engine a"]
        assert len(asyncio.all_tasks()) == tasks
        assert await read(engines.default.submit("hello")) == "hello"


@in_loop
async def test_a_server_that_stops_waits_for_no_build(shelf: Shelf, gate: Gate) -> None:
    shelf.before_load = gated(gate)
    async with running_engines(shelf, shelf.settings("a")) as engines:
        loading = asyncio.create_task(engines.load("b"))
        await until(gate.reached.is_set)
        await engines.stop()
        with pytest.raises(ShuttingDownError):
            await loading
        assert engines.are_building
        gate.open()
        await until(lambda: not engines.are_building)
