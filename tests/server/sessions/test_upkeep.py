"""What is done for sessions while nobody asks for anything."""

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from causalrn.server.errors import EngineError
from causalrn.server.sessions.upkeep import LEASE_SECONDS
from tests.server.conftest import Gate
from tests.server.engine.running import until
from tests.server.in_loop import in_loop
from tests.server.sessions.serving import serving
from tests.server.shelf import Shelf
from tests.server.steps import die


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "models", "a", "b")


@pytest.fixture(autouse=True)
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clocks are trusted at once."""
    monkeypatch.setattr("causalrn.server.sessions.even_clocks._SECONDS", 0.0)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite://{tmp_path}/sessions.db"


@in_loop
async def test_a_sweep_frees_the_memory_of_sessions_that_are_gone(shelf: Shelf, url: str) -> None:
    async with serving(shelf, "a", url=url) as server:
        gone, kept = await server.made(), await server.made()
        for id in (gone, kept):
            await server.turn(id, "hello")
        await server.store.delete(gone)  # as another server does
        assert server.engines.default.usage.sessions_warm == 2
        await server.sessions.upkeep.sweep()
        assert server.engines.default.usage.sessions_warm == 1
        assert await server.turn(kept, "world") == "world"


@in_loop
async def test_nothing_is_swept_for_a_while_after_a_clock_jumped(
    shelf: Shelf, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("causalrn.server.sessions.even_clocks._SECONDS", 600.0)
    clock = SimpleNamespace(wall=1_800_000_000.0, elapsed=1000.0)
    stand_in = SimpleNamespace(time=lambda: clock.wall, monotonic=lambda: clock.elapsed)
    for module in ("even_clocks", "upkeep"):
        monkeypatch.setattr(f"causalrn.server.sessions.{module}.time", stand_in)
    n_sweeps = 0

    async def sweep() -> int:
        nonlocal n_sweeps
        n_sweeps += 1
        return 0

    async with serving(shelf, "a", url=url) as server:
        upkeep = server.sessions.upkeep
        monkeypatch.setattr(server.store, "sweep", sweep)
        monkeypatch.setattr(server.store, "now", lambda: asyncio.sleep(0, clock.wall - 3))
        for step in (0, 7 * 86_400, -7 * 86_400):
            clock.wall += step
            for _ in range(10):
                await upkeep.sweep()
                clock.wall += 60
                clock.elapsed += 60
            assert n_sweeps == 0
            await upkeep.sweep()
            assert n_sweeps == 1
            n_sweeps = 0


@in_loop
async def test_a_sweep_leaves_a_session_alone_while_a_request_is_in_it(
    shelf: Shelf, url: str
) -> None:
    async with serving(shelf, "a", url=url) as server:
        id = await server.made()
        await server.turn(id, "hello")
        await server.store.delete(id)
        await server.sessions.turns.lock(id)
        await server.sessions.upkeep.sweep()
        assert server.engines.default.usage.sessions_warm == 1
        server.sessions.locks.release(id)
        await server.sessions.upkeep.sweep()
        assert server.engines.default.usage.sessions_warm == 0


@in_loop
async def test_a_sweep_passes_over_an_engine_that_died(shelf: Shelf, url: str) -> None:
    async with serving(shelf, "b", "a", url=url) as server:
        dead, gone = await server.made("a"), await server.made("b")
        await server.turn(gone, "hello")
        await server.store.delete(gone)
        shelf.models["a"].decoder.before_extend = die
        with pytest.raises(EngineError):
            await server.turn(dead, "hello")
        await server.sessions.upkeep.sweep()
        assert server.engines.default.usage.sessions_warm == 0
        await server.engines.unload("a")


@in_loop
async def test_a_turn_that_lasts_keeps_its_session_from_others(
    shelf: Shelf, url: str, gate: Gate
) -> None:
    async with serving(shelf, "a", url=url, lease_seconds=0.8) as server:
        id = await server.made()
        shelf.models["a"].decoder.before_extend = gate
        turn = asyncio.create_task(server.turn(id, "hello"))
        await until(gate.reached.is_set)
        for _ in range(12):
            await server.sessions.upkeep.renew()
            await asyncio.sleep(0.1)
        assert (await server.store.get(id)).busy
        gate.open()
        assert await turn == "hello"
        assert not (await server.store.get(id)).busy


@in_loop
async def test_leases_are_renewed_again_and_again_until_it_is_stopped(
    shelf: Shelf, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("causalrn.server.sessions.upkeep.LEASE_SECONDS", LEASE_SECONDS / 1000)
    async with serving(shelf, "a", url=url) as server:
        upkeep, n_renewals = server.sessions.upkeep, 0

        async def count() -> None:
            nonlocal n_renewals
            n_renewals += 1

        monkeypatch.setattr(upkeep, "renew", count)
        upkeep.start()
        await until(lambda: n_renewals >= 3)
        await upkeep.stop()
        await upkeep.stop()
        before = n_renewals
        await asyncio.sleep(0.05)
        assert n_renewals == before
