"""Tokens that a device draws, interpreted: the same in any company, and nothing else is copied."""

from typing import Any

import pytest

from causalrn.model.checkpoint import Checkpoint, load_checkpoint
from causalrn.model.generation import generate
from causalrn.model.predictions import Predictions
from causalrn.model.sampling import SamplingParams
from causalrn.server.engine.deltas import Delta
from tests.model.tiny import random_checkpoint
from tests.server.conftest import make_settings
from tests.server.driver import Driver

pytestmark = pytest.mark.usefixtures("quick_interpreter")
FEW = {3: 100.0, 4: 100.0, 5: 99.0}
REQUESTS: dict[str, dict[str, Any]] = {
    "plain": {"sampling": SamplingParams(temperature=1.0, seed=1)},
    "greedy": {"sampling": SamplingParams()},
    "few": {"sampling": SamplingParams(temperature=2.0, seed=2, logit_bias=FEW), "n": 2},
    "truncated": {
        "sampling": SamplingParams(
            temperature=1.5, seed=3, top_k=9, top_p=0.9, min_p=0.01, logit_bias=FEW,
            presence_penalty=0.5, frequency_penalty=0.1, repetition_penalty=1.2,
        ),
        "min_tokens": 5,
    },
    "penalties": {"sampling": SamplingParams(logit_bias=FEW, frequency_penalty=1.0)},
}  # fmt: skip
N_TOKENS = 12


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("tiny")
    random_checkpoint(folder, mixers=("separable",))
    return load_checkpoint(folder, "gpu")


def driven(model: Checkpoint, *, reuse: bool = True, **changes: Any) -> Driver[Checkpoint]:
    return Driver(model, make_settings(**({"pool_bytes": 100_000} | changes)), reuse=reuse)


def run(driver: Driver[Checkpoint], *names: str) -> dict[str, list[Delta]]:
    for name in names:
        driver.add(name, "abcabdab" + name, N_TOKENS, **{"ignore_eos": True} | REQUESTS[name])
    driver.run()
    return {name: [Delta.join(deltas) for deltas in driver.deltas[name]] for name in names}


@pytest.fixture(scope="module")
def alone(checkpoint: Checkpoint) -> dict[str, list[Delta]]:
    """Each request by itself, every token in a step of its own."""
    found: dict[str, list[Delta]] = {}
    for name in REQUESTS:
        found |= run(driven(checkpoint, reuse=False), name)
    return found


def test_seeds_and_samples_differ(alone: dict[str, list[Delta]]) -> None:
    answers = {tuple(delta.token_ids) for deltas in alone.values() for delta in deltas}
    assert len(answers) == len(REQUESTS) + 1
    assert all(len(ids) == N_TOKENS for ids in answers)
    assert set(alone["few"][0].token_ids) <= FEW.keys()


class Knowing:
    """Guesses what comes in the answer that begins like a sequence's, and then something wrong."""

    def __init__(self, token_ids: list[int], answers: list[list[int]]) -> None:
        self._ids, self._n_prompt, self._answers = token_ids, len(token_ids), answers

    pauses = False

    def is_ready(self) -> bool:
        return True

    def propose(self, room: int) -> list[int]:
        written = self._ids[self._n_prompt :]
        for answer in self._answers:
            if answer[: len(written)] == written:
                right = answer[len(written) : len(written) + 3]
                return [*right, 3 + right[-1] % 2][: max(0, room)] if right else []
        return []

    def judge(self, n_drafted: int, n_right: int) -> None:
        pass


@pytest.mark.parametrize("max_draft_tokens", [0, 64])
def test_company_chunks_and_drafts_change_no_token(
    checkpoint: Checkpoint,
    alone: dict[str, list[Delta]],
    max_draft_tokens: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = [delta.token_ids for deltas in alone.values() for delta in deltas]
    monkeypatch.setattr("tests.server.driver.draft_for", lambda ids, *_: Knowing(ids, answers))
    driver = driven(checkpoint, max_draft_tokens=max_draft_tokens)
    assert run(driver, *REQUESTS) == alone
    scheduler = driver.core.scheduler
    assert (scheduler.n_accepted > 30) == (max_draft_tokens > 0)
    assert (scheduler.n_drafted > scheduler.n_accepted) == (max_draft_tokens > 0)


def test_logits_stay_on_the_device_until_they_are_asked_for(
    checkpoint: Checkpoint, alone: dict[str, list[Delta]], monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = Predictions.logits.func  # type: ignore[attr-defined]
    copied = []

    def note(predictions: Predictions) -> Any:
        copied.append(predictions)
        return logits(predictions)

    monkeypatch.setattr(Predictions, "logits", property(note))
    names = ("few", "truncated", "greedy")
    assert run(driven(checkpoint), *names) == {name: alone[name] for name in names}
    assert not copied
    monkeypatch.setitem(REQUESTS, "told", REQUESTS["truncated"] | {"logprobs": 1})
    (told,) = run(driven(checkpoint), "told")["told"]
    assert len(copied) == N_TOKENS
    assert told.logprobs is not None
    assert [one.token_id for one in told.logprobs] == told.token_ids
    assert all(one.logprob is not None and one.logprob < 0 for one in told.logprobs)


def test_the_command_draws_what_the_server_does(
    checkpoint: Checkpoint, alone: dict[str, list[Delta]]
) -> None:
    for name in ("few", "penalties"):
        prompt = checkpoint.tokenizer.encode("abcabdab" + name)
        sampling = REQUESTS[name]["sampling"]
        steps = generate(checkpoint, [prompt], max_tokens=[N_TOKENS], sampling=sampling)
        assert [step[0] for step in steps] == alone[name][0].token_ids


def test_what_is_not_finite_fails_one_request(checkpoint: Checkpoint) -> None:
    weight = checkpoint.decoder.embedding.token.weight
    driver = driven(checkpoint)
    spoilt = weight[20].clone()
    weight[20] = float("nan")
    try:
        driver.add("a", [3, 20], 3, sampling=SamplingParams(temperature=1.0))
        driver.add("b", [3, 4], 3, sampling=SamplingParams(temperature=1.0, logit_bias=FEW))
        driver.run()
    finally:
        weight[20] = spoilt
    assert driver.ended == {"a": "error", "b": "length"}
