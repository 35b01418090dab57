"""Memory of sessions that leaves one core and enters another."""

from typing import Any

import pytest

from causalrn.model.state import SequenceMemory
from tests.server.conftest import make_settings, pool_of
from tests.server.driver import Driver
from tests.server.fake_model import FakeModel


def export(driver: Driver[FakeModel], session: str = "s") -> tuple[int, SequenceMemory]:
    held = driver.core.sessions.export(session, driver.logs[session])
    assert held is not None
    return held


def restore(driver: Driver[FakeModel], session: str, log: list[int], *held: Any) -> bool:
    n_held, memory = held
    driver.logs[session] = list(log)
    return driver.core.sessions.restore(session, log[:n_held], memory)


@pytest.mark.parametrize("n", [3, 7, 8, 20])
def test_a_session_goes_on_elsewhere_with_exported_memory(
    driver: Driver[FakeModel], n: int
) -> None:
    driver.talk("a", "x" * n)
    other = Driver(FakeModel(), pool_of(30, page_size=32))
    other.talk("company", "y" * 50, "t")
    assert restore(other, "s", driver.logs["s"], *export(driver))
    assert other.use().n_tokens == len(driver.logs["s"]) - 1
    assert other.talk("b", "hello") == 1 + 7 + 5
    assert other.text["b"] == "hello"
    other.assert_nothing_leaks()


def test_memory_of_other_tokens_is_not_exported(driver: Driver[FakeModel]) -> None:
    driver.talk("a", "hello")
    log = driver.logs["s"]
    assert driver.core.sessions.export("s", [*log[:3], 7, *log[4:]]) is None
    assert driver.core.sessions.export("s", log[:5]) is None
    assert driver.core.sessions.export("unknown", log) is None


def test_a_session_imported_without_room_is_cold(driver: Driver[FakeModel]) -> None:
    driver.talk("a", "x" * 40)
    other = Driver(FakeModel(), pool_of(6))
    other.add("running", "y" * 20)
    other.step()
    assert not restore(other, "s", driver.logs["s"], *export(driver))
    other.run()
    assert not other.use().is_warm
    other.assert_nothing_leaks()


def test_imported_memory_takes_the_place_of_what_was_there(driver: Driver[FakeModel]) -> None:
    driver.talk("a", "x" * 40)
    driver.talk("b", "hello", "t")
    restore(driver, "s", driver.logs["t"], *export(driver, "t"))
    assert driver.use().n_tokens == 12
    driver.talk("c", "world")
    assert driver.text["c"] == "world"
    driver.assert_nothing_leaks()


def test_imported_memory_is_never_found_by_others(model: FakeModel) -> None:
    first = Driver(model, make_settings())
    first.talk("a", "x" * 40)
    driver = Driver(FakeModel(), make_settings())
    restore(driver, "s", first.logs["s"], *export(first))
    driver.talk("b", "y" * 40)
    driver.fork("s", "child")
    driver.talk("c", "z" * 40, "child")
    assert driver.core.pool.cache.n_pages == 0
    before = driver.core.n_tokens
    driver.add("d", "x" * 40)
    driver.run()
    assert (driver.core.n_tokens - before, driver.progress["d"].n_cached) == (82, 0)
    # What is computed here after it was dropped is its own again.
    driver.drop("s")
    driver.talk("e", "hello")
    assert driver.core.pool.cache.n_pages > 3
    driver.assert_nothing_leaks()


def test_a_preempted_turn_of_imported_memory_is_shared_again(model: FakeModel) -> None:
    first = Driver(model, make_settings())
    first.talk("a", "x" * 20)
    driver = Driver(FakeModel(), pool_of(7))
    restore(driver, "s", first.logs["s"], *export(first))
    driver.add("first", "y" * 30)
    driver.add("b", "z" * 10, session="s")
    driver.run()
    assert driver.core.scheduler.n_preemptions > 0
    assert (driver.text["first"], driver.text["b"]) == ("y" * 30, "z" * 10)
    # By now all of it was computed here, so that whoever begins alike may have its first page.
    driver.add("c", "x" * 20)
    driver.run()
    assert (driver.text["c"], driver.progress["c"].n_cached) == ("x" * 20, 16)
    driver.assert_nothing_leaks()
