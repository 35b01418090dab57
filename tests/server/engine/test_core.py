import logging
import math
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from causalrn.model.predictions import Predictions
from causalrn.model.sampling import SamplingParams
from causalrn.model.state import RaggedBatch
from causalrn.server.engine.core import EngineCore
from causalrn.server.engine.deltas import Delta
from causalrn.server.errors import StartupError
from tests.server.conftest import PAGE, SLOT, make_settings
from tests.server.driver import Driver
from tests.server.fake_model import FakeModel
from tests.server.spoilt_drafter import spoil


def test_one_request_is_copied(driver: Driver[FakeModel]) -> None:
    driver.add("a", "hello wörld 👩‍🚀")
    driver.run()
    assert driver.text == {"a": "hello wörld 👩‍🚀"}
    assert driver.ended == {"a": "stop"}


def test_a_prompt_longer_than_the_budget_is_read_in_chunks(driver: Driver[FakeModel]) -> None:
    driver.add("a", "x" * 100)
    driver.run()
    assert driver.model.decoder.batches[:4] == [(1, 32), (1, 32), (1, 32), (1, 6)]
    assert driver.text["a"] == "x" * 100


def test_requests_that_arrive_in_mid_decode_join_the_batch(driver: Driver[FakeModel]) -> None:
    driver.add("a", "abcdefghij")
    for _ in range(4):
        driver.step()
    driver.add("b", "0123")
    driver.run()
    assert driver.text == {"a": "abcdefghij", "b": "0123"}
    # One prompt beside one decoding token, then both decode, then one is left.
    assert driver.model.decoder.batches[4:7] == [(2, 1 + 6), (2, 2), (2, 2)]
    assert driver.model.decoder.batches[-1] == (1, 1)


def test_more_requests_than_places_wait_and_are_all_served(driver: Driver[FakeModel]) -> None:
    for i in range(30):
        driver.add(str(i), f"text number {i}" * (1 + i % 4))
    driver.run()
    assert driver.text == {str(i): f"text number {i}" * (1 + i % 4) for i in range(30)}
    assert max(n for n, _ in driver.model.decoder.batches) == 8


def test_exhausted_pages_preempt_the_last_one_and_change_nothing(driver: Driver[FakeModel]) -> None:
    driver.add("a", "a" * 400)  # 803 tokens of 1024
    driver.add("b", "b" * 200)
    driver.run()
    assert driver.core.scheduler.n_preemptions > 0
    assert driver.text == {"a": "a" * 400, "b": "b" * 200}
    assert driver.ended == {"a": "stop", "b": "stop"}


def test_an_equal_beginning_is_not_computed_again(driver: Driver[FakeModel]) -> None:
    driver.add("a", "x" * 100)
    driver.run()
    before = driver.core.n_tokens
    driver.add("b", "x" * 100)
    driver.run()
    assert driver.text["b"] == "x" * 100
    assert driver.core.n_tokens - before == 202 - 96


def test_samples_of_one_prompt_share_its_pages(driver: Driver[FakeModel]) -> None:
    text = "x" * 100
    driver.add("a", text, n=4)
    for _ in range(5):
        driver.step()
    assert driver.core.n_live == 1
    assert len(driver.core.scheduler.running) == 4
    assert (
        driver.core.pool.allocator.n_used == 6 + 4
    )  # 102 tokens of the prompt, and a page for each
    driver.run()
    assert driver.text == {"a": text, "a-1": text, "a-2": text, "a-3": text}


def test_samples_beyond_the_places_wait(driver: Driver[FakeModel]) -> None:
    driver.add("a", "hello", n=20)
    driver.run()
    assert set(driver.text.values()) == {"hello"}
    assert len(driver.ended) == 20


def test_samples_draw_on_their_own_and_repeatably(driver: Driver[FakeModel]) -> None:
    hot = SamplingParams(temperature=2.0, seed=3)
    driver.add("a", "hello there", 30, sampling=hot, n=3)
    driver.add("b", "hello there", 30, sampling=hot)
    driver.run()
    texts = [driver.text[name] for name in ("a", "a-1", "a-2")]
    assert len(set(texts)) == 3
    assert driver.text["b"] == texts[0]


def test_tokens_come_with_log_probabilities(driver: Driver[FakeModel]) -> None:
    driver.add("a", "hi", logprobs=2)
    driver.run()
    delta = driver.joined("a")
    assert delta.logprobs is not None
    assert [one.token_id for one in delta.logprobs] == delta.token_ids == [104, 105]
    # The fake's logits: 8 for the token that it wants, -1 for BOS, 0 for 257 others.
    total = math.exp(8) + 257 + math.exp(-1)
    for one in delta.logprobs:
        assert one.logprob == pytest.approx(8 - math.log(total))
        assert one.top[0] == (one.token_id, one.logprob)
        assert one.top[1][0] == 0
        assert one.top[1][1] == pytest.approx(-math.log(total))
    driver.add("b", "hi")
    driver.run()
    assert driver.joined("b").logprobs is None


@pytest.mark.parametrize("n", [1, 3])
def test_echo_with_log_probabilities_of_the_prompt(driver: Driver[FakeModel], n: int) -> None:
    text = "x" * 50  # two steps of prompt
    driver.add("a", text, echo=True, logprobs=0, n=n)
    driver.run()
    for index in range(n):
        delta = driver.joined("a", index)
        assert delta.logprobs is not None
        assert (delta.text, delta.n_generated) == (text + text, 50)
        assert [one.token_id for one in delta.logprobs] == delta.token_ids
        # The fake wants BOS in a prompt, so nothing is likely there.
        known = [one.logprob for one in delta.logprobs if one.logprob is not None]
        assert len(known) == 100
        assert max(known[:50]) < -5
        assert min(known[50:]) > -0.1


def test_a_prompt_can_be_read_without_generating(driver: Driver[FakeModel]) -> None:
    driver.add("a", "hello", 0, echo=True, logprobs=0)
    driver.run()
    delta = driver.joined("a")
    assert (delta.text, delta.n_generated, delta.finish_reason) == ("hello", 0, "length")
    assert delta.logprobs is not None
    assert len(delta.logprobs) == 5


def test_the_end_of_a_text_has_a_log_probability_too(driver: Driver[FakeModel]) -> None:
    driver.add("a", "hi", logprobs=1)
    driver.add("b", "hi")
    driver.run()
    ending = driver.joined("a").eos_logprob
    assert ending is not None
    assert ending.token_id == 258
    assert ending.top == ((258, ending.logprob),)
    assert driver.joined("b").eos_logprob is None


@pytest.mark.parametrize("min_tokens", [0, 2, 3, 5])
def test_a_text_can_have_a_least_length(driver: Driver[FakeModel], min_tokens: int) -> None:
    driver.add("a", "hi", 9, min_tokens=min_tokens)
    driver.run()
    delta = driver.joined("a")
    assert delta.n_generated == max(2, min_tokens)
    assert delta.token_ids[:2] == [104, 105]
    assert 258 not in delta.token_ids
    assert delta.finish_reason == "stop"


@pytest.mark.parametrize(
    ("min_tokens", "text"), [(0, "a"), (2, "a"), (3, "aba"), (4, "aba"), (5, "ababa")]
)
def test_a_stop_string_cannot_come_too_early(
    driver: Driver[FakeModel], min_tokens: int, text: str
) -> None:
    driver.add("a", "ababab", stop=("b",), min_tokens=min_tokens)
    driver.run()
    assert driver.joined("a").text == text


def test_an_ignored_eos_counts_as_any_token(driver: Driver[FakeModel]) -> None:
    driver.add("a", "hi", 4, ignore_eos=True, min_tokens=4)
    driver.run()
    assert driver.joined("a").token_ids == [104, 105, 258, 258]


def test_eos_can_be_ignored(driver: Driver[FakeModel]) -> None:
    driver.add("a", "hi", 5, ignore_eos=True)
    driver.run()
    assert driver.joined("a").token_ids == [104, 105, 258, 258, 258]
    assert (driver.text["a"], driver.ended["a"]) == ("hi", "length")


def test_max_tokens_ends_with_length(driver: Driver[FakeModel]) -> None:
    driver.add("a", "hello", max_tokens=3)
    driver.add("b", "hello", max_tokens=5)
    driver.run()
    assert driver.text == {"a": "hel", "b": "hello"}
    assert driver.ended == {"a": "length", "b": "length"}


def test_a_character_cut_in_half_is_left_out(driver: Driver[FakeModel]) -> None:
    driver.add("a", "hé", max_tokens=2)
    driver.run()
    assert driver.joined("a").token_ids == [*b"h\xc3"]
    assert driver.text == {"a": "h"}
    driver.add("b", [256, *"hé".encode(), 257, *b"h\xc3"], max_tokens=1, mode="raw")
    driver.run()
    assert (driver.joined("b").token_ids, driver.text["b"]) == ([0xA9], "é")


def test_bytes_that_are_no_text_show_when_the_model_ends(driver: Driver[FakeModel]) -> None:
    for id, ids in (("cut", [0xC3]), ("wrong", [0xFF])):
        driver.add(id, ids)
    driver.run()
    assert driver.text == {"cut": "\ufffd", "wrong": "\ufffd"}


@pytest.mark.parametrize(
    ("stop", "text", "reason"),
    [
        (("lo",), "hel", "stop"),
        (("x",), "hello", "stop"),
        (("lox",), "hello", "stop"),
        (("l",), "he", "stop"),
        (("hello",), "", "stop"),
    ],
)
def test_a_stop_string_ends_a_sample(
    driver: Driver[FakeModel], stop: tuple[str, ...], text: str, reason: str
) -> None:
    driver.add("a", "hello", stop=stop)
    driver.run()
    assert (driver.text["a"], driver.ended["a"]) == (text, reason)


def test_a_stop_string_of_what_length_cut_off_still_shows(driver: Driver[FakeModel]) -> None:
    driver.add("a", "hello", max_tokens=4, stop=("lo",))
    driver.run()
    assert (driver.text["a"], driver.ended["a"]) == ("hell", "length")


@pytest.mark.parametrize("n_steps", [0, 1, 2, 20])
def test_abort_in_every_state_frees_everything(driver: Driver[FakeModel], n_steps: int) -> None:
    driver.add("a", "x" * 50)
    driver.add("b", "hello")
    for _ in range(n_steps):
        driver.step()
    driver.core.abort("a")
    driver.core.abort("a")
    driver.core.abort("unknown")
    driver.run()
    assert driver.text["b"] == "hello"
    assert "a" not in driver.ended


def test_a_failed_step_fails_its_sequences_and_no_others(
    driver: Driver[FakeModel], caplog: pytest.LogCaptureFixture
) -> None:
    def fail_if_two(batch: RaggedBatch) -> None:
        if len(batch.slots) == 8:
            raise RuntimeError("out of luck")

    driver.model.decoder.before_extend = fail_if_two
    for i in range(10):
        driver.add(str(i), f"number {i}")
    driver.run()
    assert [driver.ended[str(i)] for i in range(10)] == (
        # 32 tokens of budget are three prompts and a part of the fourth at first.
        ["error"] * 8 + ["stop"] * 2
    )
    assert {driver.text["8"], driver.text["9"]} == {"number 8", "number 9"}
    record = next(one for one in caplog.records if one.levelno == logging.ERROR)
    assert "8 sequences failed" in record.getMessage()
    assert record.exc_info is not None


def test_samples_may_fail_together_where_they_fill_a_page(
    driver: Driver[FakeModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    extend = driver.model.decoder.extend
    filled = []

    def spoil(batch: RaggedBatch, *rest: Any) -> object:
        logits = extend(batch, *rest).logits
        if batch.context_lens.tolist() == [15, 15]:
            logits[0, 3] = float("nan")
            filled.append(batch)
        return Predictions.of(logits)

    monkeypatch.setattr(driver.model.decoder, "extend", spoil)
    driver.add("a", "0123456789", n=2)
    driver.run()
    assert len(filled) == 1
    assert driver.ended["a"] == "error"
    driver.assert_nothing_leaks()


def test_logits_that_are_no_numbers_fail_one_sequence(
    driver: Driver[FakeModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    extend = driver.model.decoder.extend

    def spoil(batch: RaggedBatch, *rest: Any) -> object:
        logits = extend(batch, *rest).logits
        if len(batch.slots) > 1:
            logits[0, 3] = float("nan")
        return Predictions.of(logits)

    monkeypatch.setattr(driver.model.decoder, "extend", spoil)
    driver.add("a", "hello")
    driver.add("b", "world")
    driver.run()
    assert driver.ended == {"a": "error", "b": "stop"}
    assert driver.text["b"] == "world"


def test_the_pool_is_no_larger_than_sequences_can_use() -> None:
    core = EngineCore(FakeModel(max_seq_len=100), make_settings(pool_bytes=10**9))
    assert core.pool.allocator.n_pages == 8 * 7


def test_a_pool_that_holds_nothing_is_refused() -> None:
    with pytest.raises(StartupError, match="CAUSALRN_POOL_BYTES is 100"):
        EngineCore(FakeModel(), make_settings(pool_bytes=100))


class Storm(RuleBasedStateMachine):
    """Whatever happens, in whatever order: exact copies, nothing kept, nothing mixed up."""

    max_draft_tokens = 0

    def __init__(self) -> None:
        super().__init__()
        settings = make_settings(
            max_running=4,
            max_batch_tokens=12,
            max_draft_tokens=self.max_draft_tokens,
            pool_bytes=12 * PAGE + (8 if self.max_draft_tokens else 4) * SLOT,
        )
        self.driver = Driver(FakeModel(max_seq_len=190), settings)
        assert self.driver.core.pool.allocator.n_pages == 12  # so that pages run out
        self.wanted: dict[str, str] = {}
        self.broken = False

        def maybe_fail(_: RaggedBatch) -> None:
            if self.broken:
                raise RuntimeError("injected")

        self.driver.model.decoder.before_extend = maybe_fail

    @rule(text=strategies.text("abcé👩", min_size=1, max_size=40), data=strategies.data())
    def add(self, text: str, data: strategies.DataObject) -> None:
        id = str(len(self.driver.deltas))
        n_ids = len(text.encode())
        max_tokens = data.draw(strategies.none() | strategies.integers(1, n_ids + 5))
        n = data.draw(strategies.sampled_from([1, 1, 1, 2, 5]))
        echo = data.draw(strategies.booleans())
        logprobs = data.draw(strategies.none() | strategies.integers(0, 2))
        self.driver.add(id, text, max_tokens, n=n, echo=echo, logprobs=logprobs)
        kept = n_ids + 1 if max_tokens is None else max_tokens
        wanted = (text if echo else "") + text.encode()[:kept].decode(errors="ignore")
        for index in range(n):
            self.wanted[id if index == 0 else f"{id}-{index}"] = wanted

    @rule(n=strategies.integers(1, 8))
    def step(self, n: int) -> None:
        for _ in range(n):
            self.driver.step()

    @rule(which=strategies.integers(0, 30))
    def abort(self, which: int) -> None:
        self.driver.core.abort(str(which))

    @precondition(lambda self: self.driver.core.n_live)
    @rule()
    def fail(self) -> None:
        self.broken = True
        self.driver.step()
        self.broken = False

    def teardown(self) -> None:
        self.driver.run()
        for name, reason in self.driver.ended.items():
            if reason == "error":
                assert self.wanted[name].startswith(self.driver.text[name])
            else:
                assert self.driver.text[name] == self.wanted[name]
        for samples in self.driver.deltas.values():
            for deltas in filter(None, samples):
                joined = Delta.join(deltas)
                if joined.logprobs is not None:
                    assert [one.token_id for one in joined.logprobs] == joined.token_ids


class StormWithDrafts(Storm):
    """The same where tokens are guessed, rightly and wrongly."""

    max_draft_tokens = 8

    def __init__(self) -> None:
        super().__init__()
        self._patch = pytest.MonkeyPatch()
        spoil(self._patch, self.driver.model.config.vocab_size)

    def teardown(self) -> None:
        super().teardown()
        self._patch.undo()


TestStorm = Storm.TestCase
TestStorm.settings = hypothesis_settings(max_examples=50, stateful_step_count=30, deadline=None)
TestStormWithDrafts = StormWithDrafts.TestCase
TestStormWithDrafts.settings = TestStorm.settings
