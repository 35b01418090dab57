"""Turns of sessions whose memory is in the pool."""

import pytest

from causalrn.server.engine.warm_sessions import PoolUse
from tests.server.driver import Driver
from tests.server.fake_model import FakeModel
from tests.server.steps import fail


def test_a_turn_computes_only_what_is_new(driver: Driver[FakeModel]) -> None:
    assert driver.talk("a", "hello") == 7 + 5
    assert (driver.logs["s"][-1], len(driver.logs["s"])) == (258, 13)
    assert driver.use() == PoolUse(n_tokens=12, pages_own=1)
    # EOS is known but was never read.
    assert driver.talk("b", "world!") == 1 + 8 + 6
    assert driver.progress["b"].n_cached == 12
    assert driver.text == {"a": "hello", "b": "world!"}
    driver.assert_nothing_leaks()


def test_a_turn_that_was_cut_off_goes_on_as_if_it_had_not_been(driver: Driver[FakeModel]) -> None:
    driver.talk("a", "hello world", max_tokens=4)
    computed = driver.talk("b", "", max_tokens=20, mode="raw")
    assert driver.text == {"a": "hell", "b": "o world"}
    assert computed == 1 + 7
    assert driver.ended == {"a": "length", "b": "stop"}


def test_a_turn_of_no_tokens_reads_its_prompt(driver: Driver[FakeModel]) -> None:
    assert driver.talk("a", "hello", max_tokens=0) == 7
    assert driver.use().n_tokens == len(driver.logs["s"]) == 7
    driver.talk("b", "", max_tokens=9, mode="raw")
    assert driver.text["b"] == "hello"
    assert driver.talk("c", "again") == 1 + 7 + 5
    driver.assert_nothing_leaks()


@pytest.mark.parametrize("n_new", [1, 3, 4, 5, 20])
@pytest.mark.parametrize("n_held", [14, 15, 16, 17, 31, 32, 33])
def test_a_turn_may_begin_and_end_anywhere_in_a_page(
    driver: Driver[FakeModel], n_held: int, n_new: int
) -> None:
    driver.talk("a", "x" * (n_held - 1), max_tokens=0, mode="raw")
    driver.talk("b", "y", max_tokens=0, mode="raw")
    driver.fork("s", "child")
    for name in ("s", "child"):
        driver.talk(f"c {name}", name * n_new, name)
        assert driver.text[f"c {name}"] == name * n_new
    driver.assert_nothing_leaks()


@pytest.mark.parametrize("n_steps", [1, 2, 3, 6, 9])
def test_an_aborted_turn_leaves_what_is_known(driver: Driver[FakeModel], n_steps: int) -> None:
    driver.talk("a", "hello")
    driver.add("b", "x" * 50, session="s")
    for _ in range(n_steps):
        driver.step()
    known = len(driver.logs["s"])
    driver.abort("b")
    driver.assert_idle()
    assert driver.use().n_tokens <= known
    driver.add("c", "world", session="s")
    driver.run()
    assert driver.text["c"] == "world"
    assert driver.progress["c"].n_cached >= min(known - 1, 12 + 31 * n_steps)
    driver.assert_nothing_leaks()


def test_a_session_is_warm_in_the_middle_of_its_turn(driver: Driver[FakeModel]) -> None:
    driver.talk("a", "hello")
    driver.fork("s", "child")
    driver.add("b", "x" * 60, session="s")
    before = driver.use()
    assert before == PoolUse(n_tokens=12, pages_shared=1)
    driver.step()
    (sequence,) = driver.core.scheduler.running
    during = driver.use()
    assert before.n_tokens < during.n_tokens == sequence.n_computed
    assert during.pages_own == len(sequence.pages) > 1
    assert driver.use("child") == PoolUse(n_tokens=12, pages_own=1)
    driver.run()
    assert driver.use().n_tokens > during.n_tokens
    driver.assert_nothing_leaks()


def test_memory_of_tokens_that_were_not_committed_is_not_used(
    driver: Driver[FakeModel],
) -> None:
    driver.add("a", "x" * 40, session="s")
    while len(driver.logs["s"]) < 60:
        driver.step()
    driver.abort("a")
    driver.logs["s"] = driver.logs["s"][:50]
    driver.talk("b", "hello")
    assert driver.text["b"] == "hello"
    assert driver.progress["b"].n_cached == 48  # full pages, from the prefix cache


def test_a_failed_turn_leaves_nothing(driver: Driver[FakeModel]) -> None:
    driver.talk("a", "hello")

    driver.model.decoder.before_extend = fail
    driver.add("b", "world", session="s")
    driver.step()
    assert driver.ended["b"] == "error"
    driver.model.decoder.before_extend = lambda _: None
    driver.assert_idle()
    assert not driver.use().is_warm
    driver.talk("c", "again")
    assert driver.text["c"] == "again"
    driver.assert_nothing_leaks()
