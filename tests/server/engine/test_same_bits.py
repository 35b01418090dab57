"""Same request, same answer, to the last bit, on the shipped checkpoint."""

from typing import Any

import numpy as np
import pytest
from pydantic import ByteSize

from causalrn.model.checkpoint import Checkpoint, load_checkpoint
from causalrn.model.sampling import SamplingParams
from causalrn.model.tasks.strings import BYTE_KINDS
from causalrn.server.engine.deltas import Delta
from causalrn.server.engine.storage import pool_bytes
from causalrn.server.settings import Settings
from tests.server.driver import Driver
from tests.server.spoilt_drafter import spoil

N_REQUESTS = 64
COMMON = "The same beginning for some of them, longer than a page of sixteen tokens. "


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint(Settings().checkpoint[0])


def requests() -> list[dict[str, Any]]:
    """Copies and hot draws, one sample or several, of every kind and length of text."""
    rng = np.random.default_rng(0)
    kinds = [kind for kind in BYTE_KINDS if kind != "uniform"]
    made = []
    for i in range(N_REQUESTS):
        ids = BYTE_KINDS[kinds[i % len(kinds)]](rng, int(rng.integers(1, 120)))
        text = bytes(ids.tolist()).decode(errors="replace")
        hot = SamplingParams(
            temperature=1.5,
            top_k=50,
            top_p=0.95,
            min_p=0.001,
            seed=i,
            logit_bias={32: 1.0} if i % 8 == 1 else {},
            presence_penalty=0.5,
            frequency_penalty=0.1,
            repetition_penalty=1.1,
        )
        made.append(
            {
                "text": COMMON + text if i % 3 == 0 else text,
                "max_tokens": int(rng.integers(1, 50)),
                "sampling": hot if i % 4 == 1 else SamplingParams(),
                "n": 3 if i % 8 == 5 else 1,
                "logprobs": 3,
                "echo": i % 16 == 7,
                "ignore_eos": i % 5 == 0,
            }
        )
    return made


def answers(driver: Driver[Checkpoint]) -> dict[str, list[Delta]]:
    return {id: [Delta.join(deltas) for deltas in samples] for id, samples in driver.deltas.items()}


@pytest.fixture(scope="module")
def alone(checkpoint: Checkpoint) -> dict[str, list[Delta]]:
    """Each request by itself, every prompt in one step, nothing shared and nothing guessed."""
    settings = Settings(max_running=4, max_batch_tokens=1024, page_size=64, max_draft_tokens=0)
    driver = Driver(checkpoint, settings, reuse=False)
    for i, request in enumerate(requests()):
        driver.add(str(i), **request)
        driver.run()
    assert driver.core.pool.cache.stats.hits == 0
    return answers(driver)


def test_answers_are_no_constants(alone: dict[str, list[Delta]]) -> None:
    distinct = {str(deltas[0].logprobs) for deltas in alone.values()}
    assert len(distinct) > N_REQUESTS * 3 // 4  # a few of them are copies of the same text
    assert sum(len(set(map(str, deltas))) == 3 for deltas in alone.values()) >= 2


@pytest.mark.parametrize("drafts", ["none", "own", "spoilt"])
@pytest.mark.parametrize(
    ("max_batch_tokens", "page_size", "n_pages"),
    [(64, 16, 10_000), (300, 64, 10_000), (70, 16, 60)],
    ids=["small chunks", "large chunks", "too few pages"],
)
def test_company_chunks_preemption_shared_pages_and_drafts_change_no_bit(
    checkpoint: Checkpoint,
    alone: dict[str, list[Delta]],
    max_batch_tokens: int,
    page_size: int,
    n_pages: int,
    drafts: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    max_draft_tokens = 0 if drafts == "none" else 16
    if drafts == "spoilt":
        spoil(monkeypatch, checkpoint.config.vocab_size)
    settings = Settings(
        max_running=64,
        max_batch_tokens=max_batch_tokens,
        page_size=page_size,
        pool_bytes=ByteSize(
            pool_bytes(
                checkpoint,
                page_size=page_size,
                n_slots=64,
                n_pages=n_pages,
                n_drafting=64 if max_draft_tokens else 0,
            )
        ),
        max_draft_tokens=max_draft_tokens,
    )
    driver = Driver(checkpoint, settings)
    for turn in ("first", "again"):
        for i, request in enumerate(requests()):
            driver.add(f"{turn} {i}", **request)
            if i % 10 == 0:
                driver.step()
        driver.run()
    scheduler = driver.core.scheduler
    assert scheduler.pool.cache.stats.hits > 0
    assert (scheduler.n_preemptions > 0) == (n_pages < 100)
    assert (scheduler.n_accepted > 100) == (drafts != "none")
    assert (scheduler.n_drafted - scheduler.n_accepted > 100) == (drafts == "spoilt")
    for id, deltas in answers(driver).items():
        assert deltas == alone[id.split()[1]], id
