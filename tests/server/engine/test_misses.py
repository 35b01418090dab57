"""Recalls that find nothing: no answer, and a session as if nobody had asked."""

from dataclasses import replace
from typing import Any, cast

import pytest

from causalrn.model.checkpoint import Checkpoint, load_checkpoint
from causalrn.model.predictions import Predictions
from causalrn.model.sampling import SamplingParams
from causalrn.model.tasks.copying import Copying, CopyingParams
from causalrn.server.settings import Settings
from tests.server.conftest import make_settings, pool_of
from tests.server.driver import Driver
from tests.server.fake_model import FakeModel
from tests.server.steps import fail


@pytest.fixture
def model() -> FakeModel:
    return careful()


def careful() -> FakeModel:
    """A model that recalls only what it found."""
    return FakeModel(recall=True, min_match=1.0)


def ask(driver: Driver[FakeModel], id: str, prefix: str, **options: Any) -> int:
    return driver.talk(id, prefix, mode="recall", max_tokens=30, **options)


def test_an_answer_says_how_good_it_is(driver: Driver[FakeModel]) -> None:
    driver.talk("a", "hello world")
    ask(driver, "b", "hello")
    *others, last = driver.deltas["b"][0]
    assert driver.text["b"] == " world"
    assert (last.finish_reason, last.match, last.verified) == ("stop", 1.0, True)
    assert {(delta.match, delta.verified) for delta in others} == {(None, None)}
    *_, copied = driver.deltas["a"][0]
    assert (copied.match, copied.verified) == (1.0, True)


@pytest.mark.parametrize("prefix", ["hello", "hello world"])
def test_with_an_answer_the_session_keeps_the_prompt(
    driver: Driver[FakeModel], prefix: str
) -> None:
    driver.talk("a", "hello world")
    ask(driver, "b", prefix)
    assert driver.logs["s"][-14:] == [256, 257, *b"hello world", 258]
    assert driver.use().n_tokens == len(driver.logs["s"]) - 1
    assert driver.talk("c", "hi") == 1 + 4 + 2
    driver.assert_nothing_leaks()


def test_an_answer_that_is_not_in_the_log_is_not_verified(driver: Driver[FakeModel]) -> None:
    """This model recalls the first passage that fits, and the latest is the right one."""
    driver.talk("a", "key: old")
    driver.talk("b", "key: new")
    ask(driver, "c", "key: ")
    assert (driver.text["c"], driver.joined("c").verified) == ("old", False)
    driver.add("d", "copied", max_tokens=3)
    driver.run()
    assert driver.joined("d").verified is None  # a right beginning, but no copy
    driver.add("e", "copied", mode="raw", max_tokens=3)
    driver.talk("f", "only read", max_tokens=0)
    driver.run()
    assert driver.joined("e").verified is driver.joined("f").verified is None


def test_a_miss_says_so_before_any_token(driver: Driver[FakeModel]) -> None:
    driver.talk("a", "hello world")
    ask(driver, "b", "help", echo=True)
    (delta,) = driver.deltas["b"][0]
    assert (delta.finish_reason, delta.token_ids, delta.text) == ("not_found", [], "")
    assert (delta.match, delta.verified) == (0.75, None)


def test_whoever_wants_the_nearest_gets_it(driver: Driver[FakeModel]) -> None:
    driver.talk("a", "hello world")
    ask(driver, "b", "help", allow_partial=True)
    delta = driver.joined("b")
    assert (delta.finish_reason, delta.is_eos, delta.match) == ("stop", True, 0.75)
    assert delta.verified is False


def test_an_answer_that_has_begun_goes_on(driver: Driver[FakeModel]) -> None:
    """However little is left of what was found; then it says so."""
    driver.talk("a", "hello world")
    always_x = SamplingParams(logit_bias={ord("x"): 100})
    driver.talk("b", "hello", mode="recall", max_tokens=4, sampling=always_x)
    delta = driver.joined("b")
    assert (delta.text, delta.finish_reason) == ("xxxx", "length")
    assert (delta.match, delta.verified) == (5 / 8, False)


def test_reading_a_prefix_is_no_question(driver: Driver[FakeModel]) -> None:
    driver.talk("a", "hello world")
    driver.talk("b", "help", mode="recall", max_tokens=0)
    assert driver.ended["b"] == "length"
    assert driver.logs["s"][-6:] == [256, 257, *b"help"]


def test_no_sample_of_a_miss_is_answered(driver: Driver[FakeModel]) -> None:
    driver.add("a", "help", n=3, mode="recall", max_tokens=9, logprobs=1, echo=True)
    driver.run()
    for index in range(3):
        (delta,) = driver.deltas["a"][index]
        assert (delta.finish_reason, delta.index, delta.token_ids) == ("not_found", index, [])
        assert (delta.match, delta.logprobs) == (0.0, [])
    driver.assert_nothing_leaks()


@pytest.mark.parametrize("n_asked", [1, 3, 14, 17, 40])
@pytest.mark.parametrize("n_held", [14, 15, 16, 17, 31, 32, 33])
def test_after_a_miss_a_session_is_as_it_was(
    driver: Driver[FakeModel], n_held: int, n_asked: int
) -> None:
    driver.talk("a", "x" * (n_held - 1), max_tokens=0, mode="raw")
    driver.talk("b", "y", max_tokens=0, mode="raw")
    log, use = list(driver.logs["s"]), driver.use()
    for id in ("c", "d"):  # the second time, pages of the first are found, and prove nothing
        ask(driver, id, "z" * n_asked)
        assert driver.ended[id] == "not_found"
        assert (driver.logs["s"], driver.use()) == (log, use)
    n_new = len(log) - use.n_tokens + 4 + 2
    assert driver.talk("e", "hi") == n_new
    assert driver.text["e"] == "hi"
    driver.assert_nothing_leaks()


@pytest.mark.parametrize("every", [1, 3])
def test_after_a_miss_a_cold_session_is_warm_up_to_its_last_page(every: int) -> None:
    model = careful()
    driver = Driver(model, make_settings())
    driver.core.pool.states.every = every
    driver.talk("a", "x" * 40)  # 82 tokens are read
    driver.drop("s")
    driver.add("others", "y" * 505)
    driver.run()
    assert driver.core.pool.cache.find(driver.logs["s"])[0] == []
    ask(driver, "b", "z" * 50)
    assert driver.ended["b"] == "not_found"
    assert driver.use().n_tokens == 80
    assert driver.talk("c", "hi") == len(driver.logs["s"]) - 1 - 80
    assert driver.text["c"] == "hi"
    driver.assert_nothing_leaks()


def test_forks_and_misses_do_not_meet(driver: Driver[FakeModel]) -> None:
    driver.talk("a", "hello world")
    driver.fork("s", "child")
    ask(driver, "b", "zzz")
    ask(driver, "c", "hello", session="child")
    assert (driver.ended["b"], driver.text["c"]) == ("not_found", " world")
    ask(driver, "d", "hello")
    assert driver.text["d"] == " world"
    driver.assert_nothing_leaks()


@pytest.mark.parametrize(("n_pages", "n_read", "n_asked"), [(6, 78, 10), (5, 68, 2)])
def test_a_session_that_fills_the_pool_can_be_asked(
    model: FakeModel, n_pages: int, n_read: int, n_asked: int
) -> None:
    """There is no page for a copy of its last one, so that what is asked takes its place."""
    driver = Driver(model, pool_of(n_pages))
    driver.talk("a", "x" * (n_read // 2 - 1))
    assert driver.use().n_tokens == n_read
    driver.talk("b", "z" * n_asked, mode="recall", max_tokens=5)
    assert driver.ended["b"] == "not_found"
    assert driver.use().n_tokens == 64
    driver.talk("c", "hi", max_tokens=2)
    assert driver.text["c"] == "hi"
    driver.assert_nothing_leaks()


@pytest.mark.parametrize("n_steps", [1, 2, 3])
def test_whoever_leaves_before_the_answer_has_not_asked(
    driver: Driver[FakeModel], n_steps: int
) -> None:
    driver.talk("a", "hello world")
    log, use = list(driver.logs["s"]), driver.use()
    driver.add("b", "z" * 100, max_tokens=9, mode="recall", session="s")
    for _ in range(n_steps):
        driver.step()
    driver.abort("b")
    assert (driver.logs["s"], driver.use()) == (log, use)
    driver.talk("c", "again")
    assert driver.text["c"] == "again"
    driver.assert_nothing_leaks()


@pytest.mark.parametrize("n_steps", [1, 2, 3])
def test_a_question_that_has_to_wait_in_the_middle(driver: Driver[FakeModel], n_steps: int) -> None:
    driver.talk("a", "hello world")
    use = driver.use()
    driver.add("b", "z" * 100, max_tokens=1, mode="recall", session="s")
    for _ in range(n_steps):
        driver.step()
    (sequence,) = driver.core.scheduler.running
    driver.core.scheduler.preempt(sequence)
    assert driver.use() == use
    driver.run()
    assert (driver.ended["b"], driver.use()) == ("not_found", use)
    driver.talk("c", "hello")
    assert driver.text["c"] == "hello"
    driver.assert_nothing_leaks()


def test_a_failure_gives_up_what_the_session_had(driver: Driver[FakeModel]) -> None:
    driver.talk("a", "hello")
    driver.model.decoder.before_extend = fail
    driver.add("b", "hel", max_tokens=5, mode="recall", session="s")
    driver.step()
    assert driver.ended["b"] == "error"
    driver.assert_idle()
    assert not driver.use().is_warm


def test_restored_memory_that_is_of_no_use_is_computed_again(driver: Driver[FakeModel]) -> None:
    driver.talk("a", "hello world")
    held = driver.core.sessions.export("s", driver.logs["s"])
    assert held is not None
    n_held, memory = held
    other = Driver(careful(), make_settings())
    other.logs["s"] = list(driver.logs["s"])
    other.core.sessions.restore("s", other.logs["s"][:n_held], memory)
    decoder, extend = other.model.decoder, other.model.decoder.extend

    def spoilt(*args: Any) -> Any:
        logits = extend(*args).logits
        if not other.core.n_steps:
            logits[-1] = float("nan")
        return Predictions.of(logits)

    decoder.extend = spoilt  # type: ignore[method-assign, assignment]
    ask(other, "b", "hello")
    assert other.text["b"] == " world"
    assert other.progress["b"].n_cached == 0
    other.assert_nothing_leaks()


@pytest.fixture(scope="module")
def shipped() -> Checkpoint:
    """The shipped checkpoint, which refuses whatever matches less than 0.5."""
    loaded = load_checkpoint(Settings().checkpoint[0])
    params = cast(CopyingParams, loaded.task.params).model_copy(update={"min_match": 0.5})
    return replace(loaded, task=Copying(params, loaded.tokenizer, loaded.config))


@pytest.mark.parametrize("is_cold", [False, True])
def test_a_miss_changes_no_bit_of_later_answers(
    shipped: Checkpoint, monkeypatch: pytest.MonkeyPatch, is_cold: bool
) -> None:
    def session(prefixes: list[str]) -> list[Any]:
        """What a session answers that was asked for these in vain."""
        driver = Driver(shipped, Settings(max_running=4, page_size=16))
        driver.talk("read", "The ferry to Oslo leaves at 7:40 from pier 3.", logprobs=2)
        for prefix in prefixes:
            if is_cold:
                driver.drop("s")
            monkeypatch.setattr(shipped.decoder, "match", lambda *_: 0.4)
            driver.talk(prefix, prefix, mode="recall", max_tokens=9)
            assert driver.ended[prefix] == "not_found"
            monkeypatch.setattr(shipped.decoder, "match", lambda *_: 0.6)
        driver.talk("copy", "And back at nine.", logprobs=2)
        driver.talk("recall", "The ferry", mode="recall", max_tokens=50, logprobs=2)
        answers = [driver.joined(id) for id in ("read", "copy", "recall")]
        assert answers[-1].text == " to Oslo leaves at 7:40 from pier 3."
        return [(one.token_ids, one.logprobs) for one in answers]

    assert session(["Where is the bus?", "x", "Something of more than a page. " * 3]) == session([])
