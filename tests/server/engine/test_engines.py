"""Engines of several models, by name."""

import asyncio
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from causalrn.server.engine.engines import Engines
from causalrn.server.engine.metrics import ModelCollector
from causalrn.server.errors import ModelNotFoundError, ShuttingDownError, StartupError
from tests.server.conftest import Gate
from tests.server.engine.running import engine_threads, read, running_engines, statuses, until
from tests.server.in_loop import in_loop
from tests.server.shelf import Shelf, fingerprint


@in_loop
async def test_the_first_configured_model_is_the_default(shelf: Shelf) -> None:
    async with running_engines(shelf, shelf.settings("b", "a")) as engines:
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


@in_loop
async def test_the_default_model_must_load(shelf: Shelf) -> None:
    engines = Engines(shelf.settings("nowhere", "a"), shelf)
    with pytest.raises(StartupError, match=r"no such folder.*Set CAUSALRN_CHECKPOINT"):
        await engines.start()


@in_loop
async def test_no_name_leads_out_of_the_model_folder(shelf: Shelf, tmp_path: Path) -> None:
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

    async with running_engines(shelf, shelf.settings("a")) as engines:
        assert list(await statuses(engines)) == ["a", "alias", "b", "c"]
        for name in (
            "", ".", "..", "../elsewhere/secret", "link", "loop", "up", "nested/inner", "b/",
            "./b", ".hidden", "a b", "file", "nested", str(shelf.folder / "b"), "b\0",
            "x" * 200,
        ):  # fmt: skip
            with pytest.raises(ModelNotFoundError, match="to load; there are a, alias, b, c"):
                await engines.load(name)
        assert shelf.n_loads == 1


@in_loop
async def test_configured_models_need_no_model_folder(shelf: Shelf, tmp_path: Path) -> None:
    settings = shelf.settings("a", "b").model_copy(update={"model_folder": tmp_path / "nowhere"})
    async with running_engines(shelf, settings) as engines:
        await engines.unload("b")
        assert await statuses(engines) == {"a": "serving", "b": "available"}
        assert (await engines.load("b"))[1]


@in_loop
async def test_a_server_that_shuts_down_loads_nothing_more(shelf: Shelf, gate: Gate) -> None:
    async with running_engines(shelf, shelf.settings("a", "b")) as engines:
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


@in_loop
async def test_every_model_has_metrics_of_its_own(shelf: Shelf) -> None:
    async with running_engines(shelf, shelf.settings("a", "b")) as engines:
        for _ in range(3):
            await read(engines.get("b").submit("hello"))
        await read(engines.get("a").submit("hello"))

        def finished() -> dict[str, float]:
            text = generate_latest(ModelCollector(lambda: engines.metrics)).decode()
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
