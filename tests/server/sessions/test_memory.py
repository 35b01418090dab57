"""What the pools hold of sessions: it can be looked at, shared, copied and given up."""

from pathlib import Path

import pytest

from causalrn.server.engine.ticket import Context
from causalrn.server.sessions.memory import SessionMemory
from tests.server.conftest import PAGE
from tests.server.in_loop import in_loop
from tests.server.sessions.serving import serving
from tests.server.sessions.store.stores import log_of, record
from tests.server.shelf import Shelf


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "models", "a", "b")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite://{tmp_path}/sessions.db"


@in_loop
async def test_the_use_of_a_session_is_its_pages_and_their_bytes(shelf: Shelf, url: str) -> None:
    async with serving(shelf, "a", "b", url=url) as server:
        memory = SessionMemory(server.engines)
        warm, cold = await server.made("b"), await server.made("a")
        await server.turn(warm, "x" * 20)
        records = [await server.store.get(id) for id in (warm, cold)]
        uses = await memory.uses([*records, record(fingerprint="ff" * 32)])
        assert set(uses) == {warm, cold}  # and not that of weights which nobody serves
        use, n_bytes = uses[warm]
        assert (use.n_tokens, use.pages_own, n_bytes) == (42, 3, 3 * PAGE)
        assert uses[cold][0].n_tokens == uses[cold][1] == 0


@in_loop
async def test_a_cold_session_is_computed_to_be_saved_and_its_log_stays(
    shelf: Shelf, url: str
) -> None:
    async with serving(shelf, "a", url=url) as server:
        memory, engine = SessionMemory(server.engines), server.engines.default
        id = await server.made()
        await server.turn(id, "hello")
        log = await log_of(server.store, id)
        await memory.drop(id, engine.model.fingerprint)
        assert await memory.warm_ids(engine) == []
        held = await memory.save(engine, Context(id, log), "")
        assert held is not None
        assert held[0] == len(log)
        assert await memory.warm_ids(engine) == [id]
        assert await log_of(server.store, id) == log


@in_loop
async def test_restored_memory_is_gone_on_from(shelf: Shelf, url: str) -> None:
    async with serving(shelf, "a", url=url) as server:
        memory, engine = SessionMemory(server.engines), server.engines.default
        id, other = await server.made(), await server.made()
        await server.turn(id, "hello")
        log = await log_of(server.store, id)
        held = await memory.save(engine, Context(id, log), "")
        assert held is not None
        await memory.restore(engine, other, log[: held[0]], held[1])
        assert await memory.warm_ids(engine) == [id, other]
        await server.store.replace(await server.store.get(other), log)
        assert await server.turn(other, "world") == "world"


@in_loop
async def test_a_session_whose_engine_was_unloaded_is_cold(shelf: Shelf, url: str) -> None:
    async with serving(shelf, "a", "b", url=url) as server:
        memory, engine = SessionMemory(server.engines), server.engines.get("b")
        id = await server.made("b")
        await server.turn(id, "hello")
        session = await server.store.get(id)
        await server.engines.unload("b")
        assert await memory.warm_ids(engine) == []
        assert await memory.uses([session]) == {}
        await memory.fork(session, "ses-child")
        await memory.drop(id, session.fingerprint)
