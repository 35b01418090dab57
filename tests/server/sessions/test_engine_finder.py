"""Which engine goes on with a session."""

from pathlib import Path

import pytest

from causalrn.server.errors import SessionOfOtherWeightsError
from causalrn.server.sessions.engine_finder import EngineFinder
from causalrn.server.sessions.store.base import SessionRecord
from tests.server.engine.running import running_engines
from tests.server.in_loop import in_loop
from tests.server.sessions.store.stores import record
from tests.server.shelf import Shelf, fingerprint


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "models", "a", "a-twin", "b", "c")


def session_of(model: str) -> SessionRecord:
    return record(model=model, fingerprint=fingerprint(model))


@in_loop
async def test_a_session_goes_on_with_the_engine_that_has_its_weights(shelf: Shelf) -> None:
    async with running_engines(shelf, shelf.settings("a", "b")) as engines:
        finder = EngineFinder(engines)
        assert finder.find(session_of("b")) is engines.get("b")
        assert finder.require(session_of("b"), "b") is engines.get("b")
        assert finder.of_weights(fingerprint("b")) == [engines.get("b")]


@in_loop
async def test_of_equal_weights_those_under_the_sessions_name_go_first(shelf: Shelf) -> None:
    async with running_engines(shelf, shelf.settings("a", "a-twin")) as engines:
        finder = EngineFinder(engines)
        assert finder.find(session_of("a-twin")) is engines.get("a-twin")
        assert finder.find(session_of("a")) is engines.get("a")
        assert finder.of_weights(fingerprint("a")) == list(engines)


@in_loop
async def test_equal_weights_under_another_name_will_do(shelf: Shelf) -> None:
    async with running_engines(shelf, shelf.settings("a-twin")) as engines:
        finder = EngineFinder(engines)
        for model in (None, "a", "a-twin"):
            assert finder.require(session_of("a"), model) is engines.get("a-twin")


@in_loop
async def test_a_session_of_weights_that_are_not_served_has_no_engine(shelf: Shelf) -> None:
    async with running_engines(shelf, shelf.settings("a", "b")) as engines:
        finder, session = EngineFinder(engines), session_of("c")
        assert finder.find(session) is None
        assert finder.of_weights(session.fingerprint) == []
        with pytest.raises(SessionOfOtherWeightsError) as refused:
            finder.require(session)
        served = ", ".join(f"{fingerprint(name):.12} ({name})" for name in ("a", "b"))
        assert refused.value.message == (
            f"session {session.id} belongs to weights {fingerprint('c'):.12} (c), "
            f"this server has {served}"
        )


@in_loop
async def test_a_request_for_another_model_than_the_sessions_is_refused(shelf: Shelf) -> None:
    async with running_engines(shelf, shelf.settings("a", "b")) as engines:
        with pytest.raises(SessionOfOtherWeightsError, match="belongs to the model b") as refused:
            EngineFinder(engines).require(session_of("b"), "a")
        assert refused.value.param == "model"
