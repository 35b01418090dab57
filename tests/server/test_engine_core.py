import logging

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from model.sampling import SamplingParams
from model.state import RaggedBatch
from server.engine_core import EngineCore
from server.errors import EngineError, StartupError
from server.generation import Generation
from server.sequence import Sequence
from server.settings import Settings
from server.token_stream import Delta
from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel


class Driver:
    """A core, stepped by hand, and what came out of it."""

    def __init__(self, model: FakeModel, settings: Settings) -> None:
        self.model = model
        self.core = EngineCore(model, settings)
        self.text: dict[str, str] = {}
        self.ended: dict[str, str] = {}

    def add(
        self, id: str, text: str, max_tokens: int | None = None, stop: tuple[str, ...] = ()
    ) -> None:
        ids = self.model.tokenizer.encode(text)
        sequence = Sequence(id, self.model.wrap(ids), max_tokens or len(ids) + 1)
        self.core.add(Generation(sequence, SamplingParams(), stop, self.model.tokenizer, "request"))
        self.text[id] = ""

    def step(self) -> None:
        for id, outcome in self.core.step():
            assert id not in self.ended
            if isinstance(outcome, Delta):
                self.text[id] += outcome.text
                if outcome.finish_reason is not None:
                    self.ended[id] = outcome.finish_reason
            else:
                assert isinstance(outcome, EngineError)
                self.ended[id] = "error"

    def run(self) -> None:
        while self.core.n_live:
            self.step()
        self.assert_idle()

    def assert_idle(self) -> None:
        scheduler = self.core.scheduler
        assert (scheduler.allocator.n_used, scheduler.n_free_slots) == (0, scheduler.n_slots)
        assert (len(scheduler.running), len(scheduler.waiting), self.core.n_live) == (0, 0, 0)
        assert self.model.decoder.misuses == []


@pytest.fixture
def driver(model: FakeModel, settings: Settings) -> Driver:
    return Driver(model, settings)


def test_one_request_is_copied(driver: Driver) -> None:
    driver.add("a", "hello wörld 👩‍🚀")
    driver.run()
    assert driver.text == {"a": "hello wörld 👩‍🚀"}
    assert driver.ended == {"a": "stop"}


def test_a_prompt_longer_than_the_budget_is_read_in_chunks(driver: Driver) -> None:
    driver.add("a", "x" * 100)
    driver.run()
    assert driver.model.decoder.batches[:4] == [(1, 32), (1, 32), (1, 32), (1, 6)]
    assert driver.text["a"] == "x" * 100


def test_requests_that_arrive_in_mid_decode_join_the_batch(driver: Driver) -> None:
    driver.add("a", "abcdefghij")
    for _ in range(4):
        driver.step()
    driver.add("b", "0123")
    driver.run()
    assert driver.text == {"a": "abcdefghij", "b": "0123"}
    # One prompt beside one decoding token, then both decode, then one is left.
    assert driver.model.decoder.batches[4:7] == [(2, 1 + 6), (2, 2), (2, 2)]
    assert driver.model.decoder.batches[-1] == (1, 1)


def test_more_requests_than_places_wait_and_are_all_served(driver: Driver) -> None:
    for i in range(30):
        driver.add(str(i), f"text number {i}" * (1 + i % 4))
    driver.run()
    assert driver.text == {str(i): f"text number {i}" * (1 + i % 4) for i in range(30)}
    assert max(n for n, _ in driver.model.decoder.batches) == 8


def test_exhausted_pages_make_the_next_one_wait(driver: Driver) -> None:
    driver.add("a", "a" * 400)  # 803 tokens of 1024
    driver.add("b", "b" * 200)
    for _ in range(100):
        driver.step()
    assert [one.id for one in driver.core.scheduler.waiting] == ["b"]
    driver.run()
    assert driver.text == {"a": "a" * 400, "b": "b" * 200}


def test_max_tokens_ends_with_length(driver: Driver) -> None:
    driver.add("a", "hello", max_tokens=3)
    driver.add("b", "hello", max_tokens=5)
    driver.run()
    assert driver.text == {"a": "hel", "b": "hello"}
    assert driver.ended == {"a": "length", "b": "length"}


def test_a_character_cut_in_half_becomes_a_replacement(driver: Driver) -> None:
    driver.add("a", "hé", max_tokens=2)
    driver.run()
    assert driver.text == {"a": "h\ufffd"}


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
def test_stop_strings(driver: Driver, stop: tuple[str, ...], text: str, reason: str) -> None:
    driver.add("a", "hello", stop=stop)
    driver.run()
    assert (driver.text["a"], driver.ended["a"]) == (text, reason)


def test_a_stop_string_of_what_length_cut_off_still_shows(driver: Driver) -> None:
    driver.add("a", "hello", max_tokens=4, stop=("lo",))
    driver.run()
    assert (driver.text["a"], driver.ended["a"]) == ("hell", "length")


@pytest.mark.parametrize("n_steps", [0, 1, 2, 20])
def test_abort_in_every_state_frees_everything(driver: Driver, n_steps: int) -> None:
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
    driver: Driver, caplog: pytest.LogCaptureFixture
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


def test_logits_that_are_no_numbers_fail_one_sequence(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    extend = driver.model.decoder.extend

    def spoil(batch: RaggedBatch, state: object) -> object:
        logits = extend(batch, state)  # type: ignore[arg-type]
        if len(batch.slots) > 1:
            logits[0, 3] = float("nan")
        return logits

    monkeypatch.setattr(driver.model.decoder, "extend", spoil)
    driver.add("a", "hello")
    driver.add("b", "world")
    driver.run()
    assert driver.ended == {"a": "error", "b": "stop"}
    assert driver.text["b"] == "world"


def test_every_end_is_one_line_in_the_log(driver: Driver, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "server")
    driver.add("a", "hello")
    driver.add("b", "hello")
    driver.step()
    driver.core.abort("b")
    driver.run()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert lines[0].startswith("b abort: prompt 7, generated 1 tokens, first ")
    assert lines[1].startswith("a stop: prompt 7, generated 5 tokens, first ")
    assert lines[1].endswith("request request")


def test_the_pool_is_no_larger_than_sequences_can_use() -> None:
    core = EngineCore(FakeModel(max_seq_len=100), make_settings(pool_bytes=10**9))
    assert core.allocator.n_pages == 8 * 7


def test_a_pool_that_holds_nothing_is_refused() -> None:
    with pytest.raises(StartupError, match="CAUSALRN_POOL_BYTES is 100"):
        EngineCore(FakeModel(), make_settings(pool_bytes=100))


class Storm(RuleBasedStateMachine):
    """Whatever happens, in whatever order: exact copies, nothing kept, nothing mixed up."""

    def __init__(self) -> None:
        super().__init__()
        self.driver = Driver(FakeModel(), make_settings(max_running=4, max_batch_tokens=12))
        self.wanted: dict[str, str] = {}
        self.broken = False

        def maybe_fail(_: RaggedBatch) -> None:
            if self.broken:
                raise RuntimeError("injected")

        self.driver.model.decoder.before_extend = maybe_fail

    @rule(text=strategies.text("abcé👩", min_size=1, max_size=40), data=strategies.data())
    def add(self, text: str, data: strategies.DataObject) -> None:
        id = str(len(self.wanted))
        n_ids = len(text.encode())
        max_tokens = data.draw(strategies.none() | strategies.integers(1, n_ids + 5))
        self.driver.add(id, text, max_tokens)
        kept = n_ids + 1 if max_tokens is None else max_tokens
        self.wanted[id] = text.encode()[:kept].decode(errors="replace")

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
        for id, reason in self.driver.ended.items():
            if reason == "error":
                assert self.wanted[id].startswith(self.driver.text[id].rstrip("\ufffd"))
            else:
                assert self.driver.text[id] == self.wanted[id]


TestStorm = Storm.TestCase
TestStorm.settings = hypothesis_settings(max_examples=50, stateful_step_count=30, deadline=None)
