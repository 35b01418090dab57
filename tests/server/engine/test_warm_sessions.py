from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from model.state import RaggedBatch, SequenceMemory
from server.engine.deltas import Delta
from server.engine.pool import Pool
from server.engine.scheduler import Scheduler
from server.engine.sequence import Sequence
from server.engine.warm_sessions import PoolUse, WarmSession
from server.settings import Settings
from tests.server.conftest import PAGE, SLOT, make_settings
from tests.server.driver import Driver
from tests.server.fake_model import FakeModel


@pytest.fixture
def driver(model: FakeModel, settings: Settings) -> Driver[FakeModel]:
    return Driver(model, settings)


def small(n_pages: int, **changes: Any) -> Settings:
    return make_settings(pool_bytes=n_pages * PAGE + 8 * SLOT, **changes)


def talk(driver: Driver[FakeModel], id: str, text: str, session: str = "s", **options: Any) -> int:
    """A turn to its end; returns how many tokens it computed."""
    before = driver.core.n_tokens
    driver.add(id, text, session=session, **options)
    driver.run()
    return driver.core.n_tokens - before


def use(driver: Driver[FakeModel], session: str = "s") -> PoolUse:
    return driver.core.scheduler.session_use(session)


def test_a_turn_computes_only_what_is_new(driver: Driver[FakeModel]) -> None:
    assert talk(driver, "a", "hello") == 7 + 5
    assert (driver.logs["s"][-1], len(driver.logs["s"])) == (258, 13)
    assert use(driver) == PoolUse(n_tokens=12, pages_own=1)
    # EOS is known but was never read.
    assert talk(driver, "b", "world!") == 1 + 8 + 6
    assert driver.progress["b"].n_cached == 12
    assert driver.text == {"a": "hello", "b": "world!"}
    driver.assert_nothing_leaks()


def test_a_turn_that_was_cut_off_goes_on_as_if_it_had_not_been(driver: Driver[FakeModel]) -> None:
    talk(driver, "a", "hello world", max_tokens=4)
    computed = talk(driver, "b", "", max_tokens=20, mode="raw")
    assert driver.text == {"a": "hell", "b": "o world"}
    assert computed == 1 + 7
    assert driver.ended == {"a": "length", "b": "stop"}


def test_a_turn_that_only_reads(driver: Driver[FakeModel]) -> None:
    assert talk(driver, "a", "hello", max_tokens=0) == 7
    assert use(driver).n_tokens == len(driver.logs["s"]) == 7
    talk(driver, "b", "", max_tokens=9, mode="raw")
    assert driver.text["b"] == "hello"
    assert talk(driver, "c", "again") == 1 + 7 + 5
    driver.assert_nothing_leaks()


@pytest.mark.parametrize("n_new", [1, 3, 4, 5, 20])
@pytest.mark.parametrize("n_held", [14, 15, 16, 17, 31, 32, 33])
def test_pages_that_are_full_and_pages_that_are_not(
    driver: Driver[FakeModel], n_held: int, n_new: int
) -> None:
    talk(driver, "a", "x" * (n_held - 1), max_tokens=0, mode="raw")
    talk(driver, "b", "y", max_tokens=0, mode="raw")
    driver.fork("s", "child")
    for name in ("s", "child"):
        talk(driver, f"c {name}", name * n_new, name)
        assert driver.text[f"c {name}"] == name * n_new
    driver.assert_nothing_leaks()


@pytest.mark.parametrize("n_steps", [1, 2, 3, 6, 9])
def test_an_aborted_turn_leaves_what_is_known(driver: Driver[FakeModel], n_steps: int) -> None:
    talk(driver, "a", "hello")
    driver.add("b", "x" * 50, session="s")
    for _ in range(n_steps):
        driver.step()
    known = len(driver.logs["s"])
    driver.abort("b")
    driver.assert_idle()
    assert use(driver).n_tokens <= known
    driver.add("c", "world", session="s")
    driver.run()
    assert driver.text["c"] == "world"
    assert driver.progress["c"].n_cached >= min(known - 1, 12 + 31 * n_steps)
    driver.assert_nothing_leaks()


def test_a_session_is_warm_in_the_middle_of_its_turn(driver: Driver[FakeModel]) -> None:
    talk(driver, "a", "hello")
    driver.fork("s", "child")
    driver.add("b", "x" * 60, session="s")
    before = use(driver)
    assert before == PoolUse(n_tokens=12, pages_shared=1)
    driver.step()
    (sequence,) = driver.core.scheduler.running
    during = use(driver)
    assert before.n_tokens < during.n_tokens == sequence.n_computed
    assert during.pages_own == len(sequence.pages) > 1
    assert use(driver, "child") == PoolUse(n_tokens=12, pages_own=1)
    driver.run()
    assert use(driver).n_tokens > during.n_tokens
    driver.assert_nothing_leaks()


def test_memory_of_tokens_that_were_never_committed_is_not_used(
    driver: Driver[FakeModel],
) -> None:
    driver.add("a", "x" * 40, session="s")
    while len(driver.logs["s"]) < 60:
        driver.step()
    driver.abort("a")
    driver.logs["s"] = driver.logs["s"][:50]
    talk(driver, "b", "hello")
    assert driver.text["b"] == "hello"
    assert driver.progress["b"].n_cached == 48  # full pages, from the prefix cache


def test_a_failed_turn_leaves_nothing(driver: Driver[FakeModel]) -> None:
    talk(driver, "a", "hello")

    def fail(_: RaggedBatch) -> None:
        raise RuntimeError("injected")

    driver.model.decoder.before_extend = fail
    driver.add("b", "world", session="s")
    driver.step()
    assert driver.ended["b"] == "error"
    driver.model.decoder.before_extend = lambda _: None
    driver.assert_idle()
    assert not use(driver).is_warm
    talk(driver, "c", "again")
    assert driver.text["c"] == "again"
    driver.assert_nothing_leaks()


def test_a_fork_shares_all_pages_until_one_of_both_writes(driver: Driver[FakeModel]) -> None:
    talk(driver, "a", "x" * 20)  # 42 tokens and EOS: two full pages, one that is not
    driver.fork("s", "child")
    assert use(driver) == use(driver, "child") == PoolUse(42, 0, 3)
    assert driver.core.pool.allocator.n_used == 3
    assert talk(driver, "b", "y", "child") == 1 + 3 + 1
    assert use(driver, "child") == PoolUse(47, 1, 2)
    assert use(driver) == PoolUse(42, 1, 2)
    assert talk(driver, "c", "z") == 1 + 3 + 1
    assert driver.core.pool.allocator.n_used == 4
    assert (driver.text["b"], driver.text["c"]) == ("y", "z")
    driver.drop("s")
    assert use(driver, "child") == PoolUse(47, 3, 0)
    driver.assert_nothing_leaks()


def test_both_sides_of_a_fork_write_in_one_step(driver: Driver[FakeModel]) -> None:
    talk(driver, "a", "x" * 20)
    driver.fork("s", "child")
    driver.fork("s", "grandchild")
    for session in ("s", "child", "grandchild"):
        driver.add(session, f"says {session}", session=session)
    driver.run()
    for session in ("s", "child", "grandchild"):
        assert driver.text[session] == f"says {session}"
    driver.assert_nothing_leaks()


def test_a_hundred_forks_use_pages_for_their_own_tokens_only(model: FakeModel) -> None:
    driver = Driver(model, small(200))
    talk(driver, "a", "x" * 300)  # 602 tokens: 37 full pages, 10 tokens in another
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
    assert use(driver, "child 7") == PoolUse(606, 1, 37)
    driver.assert_nothing_leaks()


def test_a_fork_of_what_is_cold_is_cold(driver: Driver[FakeModel]) -> None:
    talk(driver, "a", "hello")
    driver.drop("s")
    driver.fork("s", "child")
    assert not use(driver, "child").is_warm
    talk(driver, "b", "world", "child")
    assert driver.text["b"] == "world"
    driver.assert_nothing_leaks()


def test_the_longest_unused_is_evicted_first_and_comes_back(model: FakeModel) -> None:
    driver = Driver(model, small(12))
    for session in "abc":
        talk(driver, session, session * 20, session)  # three pages each
    talk(driver, "a again", "", "a", max_tokens=1, mode="raw", ignore_eos=True)
    driver.add("other", "z" * 39)  # six pages, three are free
    driver.run()
    pool = driver.core.pool
    assert (pool.sessions.ids, pool.n_evictions) == (["c", "a"], 1)
    talk(driver, "b again", "hello", "b")
    assert driver.text["b again"] == "hello"
    driver.assert_nothing_leaks()


def test_a_fork_is_a_use_of_both_sessions(model: FakeModel) -> None:
    driver = Driver(model, small(12))
    for session in "abc":
        talk(driver, session, session * 20, session)  # three pages each
    driver.fork("a", "child")
    driver.add("other", "z" * 39)  # six pages, three are free
    driver.run()
    pool = driver.core.pool
    assert (pool.sessions.ids, pool.n_evictions) == (["c", "child", "a"], 1)
    driver.assert_nothing_leaks()


def test_nobody_who_runs_is_preempted_while_somebody_is_idle(model: FakeModel) -> None:
    driver = Driver(model, small(8))
    talk(driver, "a", "x" * 20, "idle")
    driver.add("b", "y" * 20, session="s")
    driver.add("c", "z" * 20)
    driver.run()
    scheduler = driver.core.scheduler
    assert (scheduler.pool.n_evictions, scheduler.n_preemptions) == (1, 0)
    assert (driver.text["b"], driver.text["c"]) == ("y" * 20, "z" * 20)
    driver.assert_nothing_leaks()


def test_a_preempted_turn_is_computed_again(model: FakeModel) -> None:
    driver = Driver(model, small(7))
    talk(driver, "a", "x" * 20)
    driver.add("first", "y" * 30)
    driver.add("b", "z" * 10, session="s")
    driver.run()
    assert driver.core.scheduler.n_preemptions > 0
    assert (driver.text["first"], driver.text["b"]) == ("y" * 30, "z" * 10)
    driver.assert_nothing_leaks()


def test_a_turn_as_long_as_the_pool_runs_though_its_pages_have_to_be_copied(
    model: FakeModel,
) -> None:
    driver = Driver(model, small(5))
    talk(driver, "a", "x" * 20)  # 42 of 80 tokens
    driver.fork("s", "child")
    driver.add("b", "y" * 16, 17, session="child")
    driver.run()
    assert len(driver.logs["child"]) == 43 + 18 + 17
    assert driver.text["b"] == "y" * 16
    driver.assert_nothing_leaks()


def test_idle_sessions_keep_what_would_be_too_little_anyway() -> None:
    pool = Pool(8, 16)
    pool.take(4)
    for id in "abc":
        pool.sessions.keep(id, WarmSession([0] * 16, pool.take(1)))
    assert not pool.make_room(5)
    assert not pool.make_room(4, spare="a")
    assert (pool.sessions.ids, pool.n_evictions) == (["a", "b", "c"], 0)
    assert pool.make_room(3, spare="a")
    assert (pool.sessions.ids, pool.n_evictions) == (["a"], 2)


def test_a_page_that_was_to_be_copied_need_not_be_when_the_others_are_gone() -> None:
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


def export(driver: Driver[FakeModel], session: str = "s") -> tuple[int, SequenceMemory]:
    held = driver.core.sessions.export(session, driver.logs[session])
    assert held is not None
    return held


def restore(driver: Driver[FakeModel], session: str, log: list[int], *held: Any) -> bool:
    n_held, memory = held
    driver.logs[session] = list(log)
    return driver.core.sessions.restore(session, log[:n_held], memory)


@pytest.mark.parametrize("n", [3, 7, 8, 20])
def test_memory_goes_out_and_comes_in(driver: Driver[FakeModel], n: int) -> None:
    talk(driver, "a", "x" * n)
    other = Driver(FakeModel(), small(30, page_size=32))
    talk(other, "company", "y" * 50, "t")
    assert restore(other, "s", driver.logs["s"], *export(driver))
    assert use(other).n_tokens == len(driver.logs["s"]) - 1
    assert talk(other, "b", "hello") == 1 + 7 + 5
    assert other.text["b"] == "hello"
    other.assert_nothing_leaks()


def test_memory_of_other_tokens_does_not_go_out(driver: Driver[FakeModel]) -> None:
    talk(driver, "a", "hello")
    log = driver.logs["s"]
    assert driver.core.sessions.export("s", [*log[:3], 7, *log[4:]]) is None
    assert driver.core.sessions.export("s", log[:5]) is None
    assert driver.core.sessions.export("unknown", log) is None


def test_memory_without_room_makes_a_cold_session(driver: Driver[FakeModel]) -> None:
    talk(driver, "a", "x" * 40)
    other = Driver(FakeModel(), small(6))
    other.add("running", "y" * 20)
    other.step()
    assert not restore(other, "s", driver.logs["s"], *export(driver))
    other.run()
    assert not use(other).is_warm
    other.assert_nothing_leaks()


def test_restored_memory_takes_the_place_of_what_was_there(driver: Driver[FakeModel]) -> None:
    talk(driver, "a", "x" * 40)
    talk(driver, "b", "hello", "t")
    restore(driver, "s", driver.logs["t"], *export(driver, "t"))
    assert use(driver).n_tokens == 12
    talk(driver, "c", "world")
    assert driver.text["c"] == "world"
    driver.assert_nothing_leaks()


def test_restored_memory_is_never_found_by_others(model: FakeModel) -> None:
    first = Driver(model, make_settings())
    talk(first, "a", "x" * 40)
    driver = Driver(FakeModel(), make_settings())
    restore(driver, "s", first.logs["s"], *export(first))
    talk(driver, "b", "y" * 40)
    driver.fork("s", "child")
    talk(driver, "c", "z" * 40, "child")
    assert driver.core.pool.cache.n_pages == 0
    before = driver.core.n_tokens
    driver.add("d", "x" * 40)
    driver.run()
    assert (driver.core.n_tokens - before, driver.progress["d"].n_cached) == (82, 0)
    # What is computed here after it was dropped is its own again.
    driver.drop("s")
    talk(driver, "e", "hello")
    assert driver.core.pool.cache.n_pages > 3
    driver.assert_nothing_leaks()


def test_a_preempted_turn_of_restored_memory_is_shared_again(model: FakeModel) -> None:
    first = Driver(model, make_settings())
    talk(first, "a", "x" * 20)
    driver = Driver(FakeModel(), small(7))
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


class Storm(RuleBasedStateMachine):
    """Whatever happens to sessions: exact copies, straight books, and nothing kept at the end."""

    def __init__(self) -> None:
        super().__init__()
        settings = small(14, max_running=4, max_batch_tokens=12)
        self.driver = Driver(FakeModel(max_seq_len=224), settings)
        self.snapshots: list[tuple[list[int], int, SequenceMemory]] = []
        self.wanted: dict[str, str] = {}
        self.cut: set[str] = set()
        self.broken = False
        self.count = 0

        def maybe_fail(_: RaggedBatch) -> None:
            if self.broken:
                raise RuntimeError("injected")

        self.driver.model.decoder.before_extend = maybe_fail

    @property
    def idle(self) -> list[str]:
        return [id for id in self.driver.logs if id not in self.driver.turns.values()]

    def name(self) -> str:
        self.count += 1
        return str(self.count)

    def pick(self, which: int) -> str | None:
        return self.idle[which % len(self.idle)] if self.idle else None

    @rule(text=strategies.text("abcé", min_size=1, max_size=30), which=strategies.integers(0, 9))
    def turn(self, text: str, which: int) -> None:
        session = self.pick(which) if which < 7 else None
        session = self.name() if session is None else session
        n_ids = len(text.encode())
        if len(self.driver.logs.get(session, [])) + 2 * n_ids + 3 > 200:
            return
        max_tokens = (None, None, 3, 0)[which % 4]
        id = f"t{self.name()}"
        self.driver.add(id, text, max_tokens, session=session)
        kept = n_ids + 1 if max_tokens is None else max_tokens
        self.wanted[id] = text.encode()[:kept].decode(errors="replace")

    @rule(text=strategies.text("abcé", min_size=1, max_size=30), n=strategies.integers(1, 3))
    def other(self, text: str, n: int) -> None:
        id = f"o{self.name()}"
        self.driver.add(id, text, n=n)
        self.wanted |= {id if i == 0 else f"{id}-{i}": text for i in range(n)}

    @rule(n=strategies.integers(1, 8))
    def step(self, n: int) -> None:
        for _ in range(n):
            self.driver.step()

    @precondition(lambda self: self.driver.turns)
    @rule(which=strategies.integers(0, 9), n_lost=strategies.integers(0, 4))
    def abort(self, which: int, n_lost: int) -> None:
        """A reader leaves, and the last tokens were not committed."""
        id, session = list(self.driver.turns.items())[which % len(self.driver.turns)]
        made = sum(delta.n_generated for delta in self.driver.deltas[id][0])
        self.driver.abort(id)
        self.cut.add(id)
        log = self.driver.logs[session]
        self.driver.logs[session] = log[: len(log) - min(n_lost, made)]

    @precondition(lambda self: self.idle)
    @rule(which=strategies.integers(0, 9))
    def fork(self, which: int) -> None:
        session = self.pick(which)
        assert session is not None
        self.driver.fork(session, self.name())

    @precondition(lambda self: self.driver.logs)
    @rule(which=strategies.integers(0, 9))
    def drop(self, which: int) -> None:
        """Even of sessions that run."""
        self.driver.drop(list(self.driver.logs)[which % len(self.driver.logs)])

    @precondition(lambda self: self.idle)
    @rule(which=strategies.integers(0, 9))
    def save(self, which: int) -> None:
        session = self.pick(which)
        assert session is not None
        log = self.driver.logs[session]
        if (held := self.driver.core.sessions.export(session, log)) is not None:
            self.snapshots.append((list(log), *held))

    @precondition(lambda self: self.snapshots)
    @rule(which=strategies.integers(0, 9), into=strategies.integers(0, 9))
    def restore(self, which: int, into: int) -> None:
        log, n_held, memory = self.snapshots[which % len(self.snapshots)]
        session = self.pick(into) if into < 5 else None
        session = self.name() if session is None else session
        self.driver.logs[session] = list(log)
        before = [one.id for one in self.driver.core.scheduler.running]
        self.driver.core.sessions.restore(session, log[:n_held], memory)
        assert [one.id for one in self.driver.core.scheduler.running] == before

    @precondition(lambda self: self.driver.core.n_live)
    @rule()
    def fail(self) -> None:
        self.broken = True
        self.driver.step()
        self.broken = False

    @invariant()
    def books_are_straight(self) -> None:
        self.driver.assert_books_are_straight()

    @invariant()
    def restored_memory_is_nobody_elses(self) -> None:
        scheduler = self.driver.core.scheduler
        warm = [scheduler.pool.sessions.get(id) for id in scheduler.pool.sessions.ids]
        private = {page for one in warm if one is not None and one.private for page in one.pages}
        private |= {page for one in scheduler.running if one.private for page in one.pages}
        public = {page for one in warm if one is not None and not one.private for page in one.pages}
        public |= {page for one in scheduler.running if not one.private for page in one.pages}
        assert private.isdisjoint(public)
        assert private.isdisjoint(scheduler.pool.cache._keys)

    def teardown(self) -> None:
        self.driver.run()
        for session in list(self.driver.logs):
            if len(self.driver.logs[session]) < 200:
                self.driver.add(f"last {session}", "bye", session=session)
                self.wanted[f"last {session}"] = "bye"
        self.driver.run()
        for name, wanted in self.wanted.items():
            if name in self.cut or self.driver.ended.get(name, "error") == "error":
                assert wanted.startswith(self.driver.text[name].rstrip("\ufffd"))
            else:
                assert self.driver.text[name] == wanted
        for samples in self.driver.deltas.values():
            assert all(Delta.join(deltas).n_echoed == 0 for deltas in samples if deltas)
        self.driver.assert_nothing_leaks()


TestStorm = Storm.TestCase
TestStorm.settings = hypothesis_settings(max_examples=40, stateful_step_count=30, deadline=None)
