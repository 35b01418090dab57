"""Sessions that share memory until one of them writes."""

from causalrn.server.engine.pool import Pool
from causalrn.server.engine.scheduler import Scheduler
from causalrn.server.engine.sequence import Sequence
from causalrn.server.engine.warm_sessions import PoolUse, WarmSession
from tests.server.conftest import pool_of
from tests.server.driver import Driver
from tests.server.fake_model import FakeModel


def test_a_fork_shares_all_pages_until_one_of_both_writes(driver: Driver[FakeModel]) -> None:
    driver.talk("a", "x" * 20)  # 42 tokens and EOS: two full pages, one that is not
    driver.fork("s", "child")
    assert driver.use() == driver.use("child") == PoolUse(42, 0, 3)
    assert driver.core.pool.allocator.n_used == 3
    assert driver.talk("b", "y", "child") == 1 + 3 + 1
    assert driver.use("child") == PoolUse(47, 1, 2)
    assert driver.use() == PoolUse(42, 1, 2)
    assert driver.talk("c", "z") == 1 + 3 + 1
    assert driver.core.pool.allocator.n_used == 4
    assert (driver.text["b"], driver.text["c"]) == ("y", "z")
    driver.drop("s")
    assert driver.use("child") == PoolUse(47, 3, 0)
    driver.assert_nothing_leaks()


def test_both_sides_of_a_fork_write_in_one_step(driver: Driver[FakeModel]) -> None:
    driver.talk("a", "x" * 20)
    driver.fork("s", "child")
    driver.fork("s", "grandchild")
    for session in ("s", "child", "grandchild"):
        driver.add(session, f"says {session}", session=session)
    driver.run()
    for session in ("s", "child", "grandchild"):
        assert driver.text[session] == f"says {session}"
    driver.assert_nothing_leaks()


def test_a_hundred_forks_use_pages_for_their_own_tokens_only(model: FakeModel) -> None:
    driver = Driver(model, pool_of(200))
    driver.talk("a", "x" * 300)  # 602 tokens: 37 full pages, 10 tokens in another
    before = driver.core.pool.allocator.n_used
    for i in range(100):
        driver.fork("s", f"child {i}")
    assert driver.core.pool.allocator.n_used == before == 38
    n_tokens = driver.core.n_tokens
    for i in range(100):
        driver.add(f"b {i}", "", 4, session=f"child {i}", mode="raw", ignore_eos=True)
    driver.run()
    assert driver.core.n_tokens - n_tokens == 100 * 4
    assert driver.core.pool.allocator.n_used == 38 + 100  # each has a page that is not full
    assert driver.core.pool.n_evictions == 0
    assert driver.use("child 7") == PoolUse(606, 1, 37)
    driver.assert_nothing_leaks()


def test_a_fork_of_a_cold_session_is_cold(driver: Driver[FakeModel]) -> None:
    driver.talk("a", "hello")
    driver.drop("s")
    driver.fork("s", "child")
    assert not driver.use("child").is_warm
    driver.talk("b", "world", "child")
    assert driver.text["b"] == "world"
    driver.assert_nothing_leaks()


def test_a_fork_is_a_use_of_both_sessions(model: FakeModel) -> None:
    driver = Driver(model, pool_of(12))
    for session in "abc":
        driver.talk(session, session * 20, session)  # three pages each
    driver.fork("a", "child")
    driver.add("other", "z" * 39)  # six pages, three are free
    driver.run()
    pool = driver.core.pool
    assert (pool.sessions.ids, pool.n_evictions) == (["c", "child", "a"], 1)
    driver.assert_nothing_leaks()


def test_a_turn_as_long_as_the_pool_runs_though_its_pages_have_to_be_copied(
    model: FakeModel,
) -> None:
    driver = Driver(model, pool_of(5))
    driver.talk("a", "x" * 20)  # 42 of 80 tokens
    driver.fork("s", "child")
    driver.add("b", "y" * 16, 17, session="child")
    driver.run()
    assert len(driver.logs["child"]) == 43 + 18 + 17
    assert driver.text["b"] == "y" * 16
    driver.assert_nothing_leaks()


def test_a_page_is_not_copied_once_it_is_no_longer_shared() -> None:
    pool = Pool(4, 16)
    scheduler = Scheduler(pool, n_slots=2, max_batch_tokens=64)
    pages = pool.take(3)
    assert pool.keep_state(pages[-1])
    pool.sessions.keep("a", WarmSession([0] * 40, pages))
    pool.sessions.fork("a", "b")
    sequence = Sequence("b", [0] * 50, 1, session="b")
    scheduler.add(sequence)
    chunks = scheduler.schedule() or scheduler.schedule()
    assert [chunk.sequence for chunk in chunks] == [sequence]
    assert (len(sequence.pages), sequence.n_computed) == (4, 40)
    assert sequence.copied_page is None
    assert pool.sessions.ids == []
