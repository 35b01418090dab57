"""Models that come and go, without HTTP."""

import asyncio
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from model.checkpoint import CheckpointError
from server.engine.engines import Engines
from server.engine.generation import GenerationParams
from server.engine.metrics import expose
from server.engine.token_stream import TokenStream
from server.errors import (
    DefaultModelError,
    EngineError,
    ModelLoadError,
    ModelNotFoundError,
    ModelUnloadedError,
    NotReadyError,
    ShuttingDownError,
    StartupError,
)
from server.settings import Settings
from tests.server.conftest import Gate
from tests.server.fake_model import FakeModel
from tests.server.live_server import is_idle
from tests.server.shelf import Shelf, fingerprint


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "models", "a", "b", "c")


@pytest.fixture
def second_gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


@asynccontextmanager
async def running(shelf: Shelf, settings: Settings) -> AsyncIterator[Engines]:
    engines = Engines(settings, shelf)
    await engines.start()
    try:
        yield engines
    finally:
        await engines.stop()
        assert all(map(is_idle, engines))
        assert all(not model.decoder.misuses for model in shelf.models.values())
        assert not engines._leaving
        assert not engines._changes


async def read(stream: TokenStream) -> str:
    async with stream:
        return "".join([delta.text async for delta in stream])


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110  # what it waits for happens on another thread
            await asyncio.sleep(0.001)


async def statuses(engines: Engines) -> dict[str, str]:
    return {info.name: info.status for info in await engines.overview()}


def all_gone(things: list[weakref.ref[Any]]) -> bool:
    return not any(thing() for thing in things)


def engine_threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("engine ")]


def gated(gate: Gate) -> Callable[[FakeModel], None]:
    """Hold the loading of `b` up."""

    def hold(model: FakeModel) -> None:
        if model.name == "b":
            gate(None)  # type: ignore[arg-type]

    return hold


def test_the_first_is_the_default(shelf: Shelf) -> None:
    async def main() -> None:
        async with running(shelf, shelf.settings("b", "a")) as engines:
            assert [engine.model.name for engine in engines] == ["b", "a"]
            assert engines.default is engines.get(None) is engines.get("b")
            assert await read(engines.get("a").submit("hello")) == "hello"
            infos = await engines.overview()
            assert [info.name for info in infos] == ["b", "a", "c"]
            assert [info.status for info in infos] == ["serving", "serving", "available"]
            assert [info.is_default for info in infos] == [True, False, False]
            assert [info.fingerprint for info in infos] == [
                fingerprint("b"),
                fingerprint("a"),
                None,
            ]
            with pytest.raises(ModelNotFoundError, match="no model 'c'; this server has b, a"):
                engines.get("c")

    asyncio.run(main())


def test_the_default_model_must_load(shelf: Shelf) -> None:
    async def main() -> None:
        engines = Engines(shelf.settings("nowhere", "a"), shelf)
        with pytest.raises(StartupError, match=r"no such folder.*Set CAUSALRN_CHECKPOINT"):
            await engines.start()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (CheckpointError("b/model.safetensors: truncated"), "b/model.safetensors: truncated"),
        (MemoryError("much too large"), "MemoryError: much too large"),
    ],
)
def test_another_one_that_fails_leaves_the_rest_serving(
    shelf: Shelf, failure: Exception, reason: str
) -> None:
    def fail(model: FakeModel) -> None:
        if model.name == "b":
            raise failure

    async def main() -> None:
        shelf.before_load = fail
        async with running(shelf, shelf.settings("a", "b", "c")) as engines:
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

    asyncio.run(main())


def test_a_warm_up_that_fails_leaves_nothing_behind(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pytest would keep what was logged, and with it all that led there.
    monkeypatch.setattr("server.engine.engines.logger.disabled", True)

    def fail(_: object) -> None:
        raise RuntimeError("no such instruction")

    def break_steps(model: FakeModel) -> None:
        model.decoder.before_extend = fail

    async def main() -> None:
        async with running(shelf, shelf.settings("a")) as engines:
            shelf.before_load = break_steps
            tasks = len(asyncio.all_tasks())
            for _ in range(3):
                with pytest.raises(ModelLoadError, match="RuntimeError: no such instruction"):
                    await engines.load("b")
            await until(lambda: list(shelf.models) == ["a"])  # the loading thread may lag
            assert len(asyncio.all_tasks()) == tasks
            assert engine_threads() == ["engine a"]
            assert len(engines.metrics) == 1

    asyncio.run(main())


def test_a_pool_that_is_too_small_for_a_model(shelf: Shelf) -> None:
    def widen(model: FakeModel) -> None:
        if model.name == "b":
            new_state = model.decoder.new_state
            many = 10_000

            def large(*, n_pages: int, page_size: int, n_slots: int, n_rows: int = 0) -> Any:
                return new_state(
                    n_pages=n_pages, page_size=page_size * many, n_slots=n_slots, n_rows=n_rows
                )

            model.decoder.new_state = large  # type: ignore[method-assign]

    async def main() -> None:
        shelf.before_load = widen
        async with running(shelf, shelf.settings("a", "b")) as engines:
            (info,) = [info for info in await engines.overview() if info.name == "b"]
            assert info.status == "failed"
            assert "CAUSALRN_POOL_BYTES" in str(info.error)

    asyncio.run(main())


def test_streams_go_on_while_a_model_is_loaded(shelf: Shelf, gate: Gate, second_gate: Gate) -> None:
    def hold(model: FakeModel) -> None:
        gate(None)  # type: ignore[arg-type]
        model.decoder.before_extend = second_gate

    async def main() -> None:
        async with running(shelf, shelf.settings("a")) as engines:
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

    asyncio.run(main())


def test_changes_of_one_model_come_one_after_the_other(shelf: Shelf, gate: Gate) -> None:
    async def main() -> None:
        async with running(shelf, shelf.settings("a")) as engines:
            shelf.before_load = gated(gate)
            loading = asyncio.create_task(engines.load("b"))
            await until(gate.reached.is_set)
            unloading = asyncio.create_task(engines.unload("b"))
            other = asyncio.create_task(engines.load("c"))
            await until(lambda: "c" in engines._changes)
            await asyncio.sleep(0.1)  # in which it could begin
            assert shelf.n_loads == 2  # it waits, too, for memory and cores
            gate.open()
            assert (await loading)[1]
            await unloading
            assert (await other)[1]
            assert await statuses(engines) == {"a": "serving", "c": "serving", "b": "available"}

    asyncio.run(main())


def test_two_who_load_at_once_load_once(shelf: Shelf, gate: Gate) -> None:
    async def main() -> None:
        async with running(shelf, shelf.settings("a")) as engines:
            shelf.before_load = gated(gate)
            loading = [asyncio.create_task(engines.load("b")) for _ in range(5)]
            await until(gate.reached.is_set)
            gate.open()
            assert sorted([(await task)[1] for task in loading]) == [False] * 4 + [True]
            assert shelf.n_loads == 2

    asyncio.run(main())


def test_whoever_gives_up_waiting_does_not_stop_a_load(shelf: Shelf, gate: Gate) -> None:
    async def main() -> None:
        async with running(shelf, shelf.settings("a")) as engines:
            shelf.before_load = gated(gate)
            loading = asyncio.create_task(engines.load("b"))
            await until(gate.reached.is_set)
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            assert (await statuses(engines))["b"] == "loading"
            gate.open()
            assert (await engines.load("b"))[1] is False

    asyncio.run(main())


def test_unloading_lets_running_requests_finish(shelf: Shelf, gate: Gate) -> None:
    async def main() -> None:
        async with running(shelf, shelf.settings("a", "b", drain_seconds=30)) as engines:
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

    asyncio.run(main())


def test_what_does_not_finish_in_time_ends_with_an_error(shelf: Shelf, gate: Gate) -> None:
    async def main() -> None:
        async with running(shelf, shelf.settings("a", "b", drain_seconds=0.05)) as engines:
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

    asyncio.run(main())


def test_the_default_model_stays(shelf: Shelf) -> None:
    async def main() -> None:
        async with running(shelf, shelf.settings("a", "b")) as engines:
            with pytest.raises(DefaultModelError, match="a is the default model"):
                await engines.unload("a")
            assert await read(engines.get(None).submit("hello")) == "hello"

    asyncio.run(main())


def test_names_are_looked_up_and_never_lead_elsewhere(shelf: Shelf, tmp_path: Path) -> None:
    outside = Shelf(tmp_path / "elsewhere", "secret")
    (shelf.folder / "link").symlink_to(outside.folder / "secret")
    (shelf.folder / "alias").symlink_to("a")
    (shelf.folder / "loop").symlink_to("loop")
    (shelf.folder / "up").symlink_to("..")
    (shelf.folder / "nested").mkdir()
    (shelf.folder / "file").touch()
    shelf.add(".hidden")
    shelf.add("a b")
    shelf.add("nested/inner")

    async def main() -> None:
        async with running(shelf, shelf.settings("a")) as engines:
            assert list(await statuses(engines)) == ["a", "alias", "b", "c"]
            for name in (
                "", ".", "..", "../elsewhere/secret", "link", "loop", "up", "nested/inner", "b/",
                "./b", ".hidden", "a b", "file", "nested", str(shelf.folder / "b"), "b\0",
                "x" * 200,
            ):  # fmt: skip
                with pytest.raises(ModelNotFoundError, match="to load; there are a, alias, b, c"):
                    await engines.load(name)
            assert shelf.n_loads == 1

    asyncio.run(main())


def test_a_model_folder_that_is_not_there(shelf: Shelf, tmp_path: Path) -> None:
    async def main() -> None:
        settings = shelf.settings("a", "b").model_copy(
            update={"model_folder": tmp_path / "nowhere"}
        )
        async with running(shelf, settings) as engines:
            await engines.unload("b")
            assert await statuses(engines) == {"a": "serving", "b": "available"}
            assert (await engines.load("b"))[1]

    asyncio.run(main())


def test_twenty_loads_and_unloads_leave_nothing_behind(shelf: Shelf) -> None:
    async def main() -> None:
        async with running(shelf, shelf.settings("a")) as engines:
            assert (await engines.load("b"))[1]
            await engines.unload("b")
            tasks = len(asyncio.all_tasks())
            gone: list[weakref.ref[Any]] = []
            for _ in range(20):
                await engines.load("b")
                engine = engines.get("b")
                assert await read(engine.submit("hello")) == "hello"
                gone += [weakref.ref(engine), weakref.ref(engine._core._state)]
                gone.append(weakref.ref(engine.model.decoder))
                del engine
                await engines.unload("b")
                await until(partial(all_gone, gone))
            assert engine_threads() == ["engine a"]
            assert len(asyncio.all_tasks()) == tasks
            assert await read(engines.default.submit("hello")) == "hello"

    asyncio.run(main())


def test_one_that_is_stuck_is_named_and_leaves_nobody_hanging(shelf: Shelf, gate: Gate) -> None:
    async def main() -> None:
        async with running(shelf, shelf.settings("a", "b", stall_seconds=1.0)) as engines:
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

    asyncio.run(main())


def test_one_that_is_stuck_when_it_is_unloaded(
    shelf: Shelf, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.engine.engine_thread._JOIN_SECONDS", 0.1)

    async def main() -> None:
        settings = shelf.settings("a", "b", stall_seconds=1.0, drain_seconds=0)
        async with running(shelf, settings) as engines:
            shelf.models["b"].decoder.before_extend = gate
            stream = engines.get("b").submit("hello")
            await until(gate.reached.is_set)
            await engines.unload("b")
            with pytest.raises(ModelUnloadedError):
                await read(stream)
            # It still has the turnstile, and `a` can make no step.
            await until(lambda: engines._turnstile.seconds_held() > 1.0)
            with pytest.raises(NotReadyError, match="a step of b has not ended"):
                engines.check_ready()
            gate.open()
            await until(lambda: engines._turnstile.holder is None)
            engines.check_ready()
            assert await read(engines.default.submit("hello")) == "hello"

    asyncio.run(main())


def test_one_whose_thread_died_can_be_loaded_anew(shelf: Shelf) -> None:
    def die(_: object) -> None:
        raise SystemExit

    async def main() -> None:
        async with running(shelf, shelf.settings("a", "b")) as engines:
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

    asyncio.run(main())


def test_a_server_that_ends_serves_nothing_new(shelf: Shelf, gate: Gate) -> None:
    async def main() -> None:
        async with running(shelf, shelf.settings("a", "b")) as engines:
            shelf.before_load = lambda _: gate(None)  # type: ignore[arg-type]
            loading = asyncio.create_task(engines.load("c"))
            await until(gate.reached.is_set)
            streams = [engine.submit("hello") for engine in engines]
            await engines.drain(20)
            assert [await read(stream) for stream in streams] == ["hello"] * 2
            with pytest.raises(ShuttingDownError):
                engines.check_ready()
            stopping = asyncio.create_task(engines.stop())
            gate.open()
            await stopping
            for load in (loading, engines.load("c")):
                with pytest.raises(ShuttingDownError):
                    await load
            assert engine_threads() == []

    asyncio.run(main())


def test_figures_of_all_models_are_told_apart(shelf: Shelf) -> None:
    async def main() -> None:
        async with running(shelf, shelf.settings("a", "b")) as engines:
            for _ in range(3):
                await read(engines.get("b").submit("hello"))
            await read(engines.get("a").submit("hello"))

            def finished() -> dict[str, float]:
                text = expose(engines.metrics).decode()
                families = list(text_string_to_metric_families(text))
                assert len({family.name for family in families}) == len(families) > 10
                return {
                    sample.labels["model_name"]: sample.value
                    for family in families
                    for sample in family.samples
                    if sample.labels.get("finished_reason") == "stop"
                }

            assert finished() == {"a": 1, "b": 3}
            await engines.unload("b")
            assert finished() == {"a": 1}
            await engines.load("b")
            assert finished() == {"a": 1, "b": 0}

    asyncio.run(main())
