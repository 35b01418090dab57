"""Guessed tokens come several in a step, and in nobody's way."""

import asyncio
import logging
import time
from typing import Any

import pytest
from prometheus_client.core import HistogramMetricFamily

from causalrn.model.predictions import Predictions
from causalrn.model.state import RaggedBatch
from causalrn.server.engine.deltas import Delta
from causalrn.server.engine.drafter import Drafter
from causalrn.server.engine.metrics import Metrics
from causalrn.server.engine.readers import Readers
from causalrn.server.engine.token_stream import TokenStream
from tests.server.conftest import PAGE, SLOT, make_settings
from tests.server.driver import Driver
from tests.server.fake_model import FakeModel
from tests.server.in_loop import in_loop

TEXT = "a text that is copied, token by token or many at a time"


def drafting(**changes: Any) -> Driver[FakeModel]:
    values = {"max_draft_tokens": 64, "pool_bytes": 64 * PAGE + 16 * SLOT}
    return Driver(FakeModel(), make_settings(**(values | changes)))


def test_a_copy_takes_few_steps() -> None:
    driver = drafting(max_batch_tokens=64)
    driver.add("a", TEXT)
    driver.run()
    assert driver.text["a"] == TEXT
    assert driver.ended["a"] == "stop"
    # The prompt and the first token, then 8, 16 and the rest, each with the token after them.
    assert driver.core.n_steps == 4
    assert [len(delta.token_ids) for delta in driver.deltas["a"][0]] == [1, 9, 17, len(TEXT) - 27]
    scheduler = driver.core.scheduler
    assert scheduler.n_drafted == scheduler.n_accepted == len(TEXT) - 3


def test_every_sample_is_followed_from_its_first_token_on() -> None:
    driver = drafting(max_batch_tokens=64)
    driver.add("a", TEXT, n=3)
    driver.run()
    assert {driver.text[name] for name in ("a", "a-1", "a-2")} == {TEXT}
    scheduler = driver.core.scheduler
    assert scheduler.n_drafted == scheduler.n_accepted > 2 * len(TEXT)


def test_one_request_can_do_without() -> None:
    driver = drafting(max_batch_tokens=64)
    driver.add("a", TEXT, speculate=False)
    driver.run()
    assert driver.text["a"] == TEXT
    assert driver.core.n_steps == len(TEXT) + 1
    assert driver.core.scheduler.n_drafted == 0


@pytest.mark.parametrize("max_tokens", [1, 2, 9, 10, 11, 30])
def test_no_more_is_computed_than_may_be_generated(max_tokens: int) -> None:
    driver = drafting(max_batch_tokens=64)
    driver.add("a", TEXT, max_tokens)
    driver.run()
    assert driver.text["a"] == TEXT[:max_tokens]
    assert driver.core.n_tokens == len(TEXT) + 2 + max_tokens - 1


def test_a_stop_string_in_the_middle_of_a_draft_leaves_nothing_behind_it() -> None:
    driver = drafting(max_batch_tokens=64)
    driver.add("a", TEXT, stop=("copied",), session="s")
    driver.run()
    assert driver.text["a"] == TEXT[: TEXT.index("copied")]
    n_held = driver.use("s").n_tokens
    assert n_held == len(TEXT) + 2 + TEXT.index("copied") + len("copied") - 1
    driver.add("b", "and on it goes", session="s")  # whose memory must be that of the log
    driver.run()
    assert driver.text["b"] == "and on it goes"
    driver.assert_nothing_leaks()


def test_beside_prompts_nothing_is_guessed() -> None:
    driver = drafting(max_batch_tokens=20)
    driver.add("a", TEXT)
    while not driver.text["a"]:
        driver.step()
    driver.add("b", "another text that takes several steps to be read, as it is long", 1)
    sizes: list[int] = []
    driver.model.decoder.before_extend = lambda batch: sizes.append(len(batch.token_ids))
    before = driver.core.scheduler.n_drafted
    while driver.core.n_live and "b" not in driver.ended:
        driver.step()
    assert len(sizes) > 2
    assert driver.core.scheduler.n_drafted == before
    driver.run()
    assert driver.core.scheduler.n_drafted > before
    assert driver.text["a"] == TEXT


def test_what_a_step_has_left_is_shared_evenly() -> None:
    driver = drafting(max_batch_tokens=32)
    batches: list[list[int]] = []

    def note(batch: RaggedBatch) -> None:
        batches.append((batch.starts[1:] - batch.starts[:-1]).tolist())

    for name in "abc":
        driver.add(name, TEXT)
    while not all(driver.text[name] for name in "abc"):
        driver.step()
    driver.model.decoder.before_extend = note
    driver.run()
    assert max(map(sum, batches)) == 32
    for batch in batches:
        if len(batch) == 3 and sum(batch) == 32:
            assert max(batch) - min(batch) <= 1
    assert {driver.text[name] for name in "abc"} == {TEXT}


def test_a_draft_takes_no_page_from_anybody() -> None:
    driver = drafting(max_batch_tokens=64, pool_bytes=9 * PAGE + 16 * SLOT)
    driver.add("a", TEXT)
    driver.add("b", "b" * 20)
    driver.run()
    assert driver.core.scheduler.n_preemptions == 0
    assert driver.text == {"a": TEXT, "b": "b" * 20}


def test_if_what_was_right_cannot_be_computed_again_its_request_fails_and_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    driver = drafting()
    driver.add("a", TEXT, stop=("copied",))
    driver.add("b", "world", speculate=False)
    steps = set()

    def fail_again(_: RaggedBatch) -> None:
        if driver.core.n_steps in steps:  # a second batch in this step
            raise RuntimeError("out of luck")
        steps.add(driver.core.n_steps)

    driver.model.decoder.before_extend = fail_again
    driver.run()
    assert driver.ended == {"a": "error", "b": "stop"}
    assert driver.text["b"] == "world"
    assert TEXT.startswith(driver.text["a"])
    records = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert [one.getMessage() for one in records] == [
        "a step to end with, of 1 sequences, failed: a-0"
    ]


def test_a_sample_that_fails_takes_one_whose_draft_was_wrong_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    driver = drafting()
    extend = driver.model.decoder.extend
    spoilt = []

    def spoil(batch: RaggedBatch, *rest: Any) -> Any:
        logits = extend(batch, *rest).logits
        if (batch.starts[1:] - batch.starts[:-1]).tolist() == [4, 4]:
            logits[4:] = float("nan")
            spoilt.append(batch)
        return Predictions.of(logits)

    monkeypatch.setattr(Drafter, "propose", lambda _, room: [0] * min(3, room))  # never right
    monkeypatch.setattr(driver.model.decoder, "extend", spoil)
    driver.add("a", TEXT, n=2)
    driver.run()
    assert len(spoilt) == 1
    assert driver.ended["a"] == "error"
    driver.assert_nothing_leaks()


@in_loop
async def test_tokens_that_come_together_share_the_time_since_the_last_one() -> None:
    metrics = Metrics("fake", lambda: pytest.fail("not asked"), 1, {})
    readers = Readers(metrics, lambda _: None, lambda _: None)
    stream = TokenStream("a", 3, lambda _: None)
    readers.add(stream, "-", None)
    began = time.monotonic()
    readers.hand_over([("a", Delta([1], "a"))])
    await asyncio.sleep(0.02)
    readers.hand_over([("a", Delta([1, 2, 3, 4], "abcd"))])
    passed = time.monotonic() - began
    family = HistogramMetricFamily("itl", "", labels=[])
    metrics.inter_token_latency.add_to(family, [])
    samples = {one.name: one.value for one in family.samples if one.labels in ({}, {"le": "+Inf"})}
    assert samples["itl_count"] == 4
    assert 0.02 <= samples["itl_sum"] <= passed
