"""Sessions in a pool that is too small for all of them."""

from tests.server.conftest import pool_of
from tests.server.driver import Driver
from tests.server.fake_model import FakeModel


def test_the_session_unused_longest_is_evicted_first_and_can_go_on(model: FakeModel) -> None:
    driver = Driver(model, pool_of(12))
    for session in "abc":
        driver.talk(session, session * 20, session)  # three pages each
    driver.talk("a again", "", "a", max_tokens=1, mode="raw", ignore_eos=True)
    driver.add("other", "z" * 39)  # six pages, three are free
    driver.run()
    pool = driver.core.pool
    assert (pool.sessions.ids, pool.n_evictions) == (["c", "a"], 1)
    driver.talk("b again", "hello", "b")
    assert driver.text["b again"] == "hello"
    driver.assert_nothing_leaks()


def test_idle_sessions_are_evicted_before_a_running_request_is_preempted(model: FakeModel) -> None:
    driver = Driver(model, pool_of(8))
    driver.talk("a", "x" * 20, "idle")
    driver.add("b", "y" * 20, session="s")
    driver.add("c", "z" * 20)
    driver.run()
    scheduler = driver.core.scheduler
    assert (scheduler.pool.n_evictions, scheduler.n_preemptions) == (1, 0)
    assert (driver.text["b"], driver.text["c"]) == ("y" * 20, "z" * 20)
    driver.assert_nothing_leaks()


def test_a_preempted_turn_is_computed_again(model: FakeModel) -> None:
    driver = Driver(model, pool_of(7))
    driver.talk("a", "x" * 20)
    driver.add("first", "y" * 30)
    driver.add("b", "z" * 10, session="s")
    driver.run()
    assert driver.core.scheduler.n_preemptions > 0
    assert (driver.text["first"], driver.text["b"]) == ("y" * 30, "z" * 10)
    driver.assert_nothing_leaks()
