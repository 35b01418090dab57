"""Scores of prompts are those of the decoder itself, on the shipped checkpoint."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from openai import OpenAI
from openai.types import CompletionChoice

from causalrn.model.checkpoint import Checkpoint, load_checkpoint
from causalrn.model.sampling import token_logprob
from causalrn.model.state import RaggedBatch
from causalrn.model.tasks.strings import BYTE_KINDS
from causalrn.server.settings import Settings

# `forward` rounds other than `extend`: float32 logits of some tens differ in their last places.
FORWARD_TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint(Settings().checkpoint[0])


@pytest.fixture
def client(server_url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server_url}/v1", api_key="none", max_retries=0) as client:
        yield client


def _prompts() -> list[list[int]]:
    """Copies that go right and wrong, of every kind and of odd lengths; and mere text."""
    rng = np.random.default_rng(0)
    prompts = []
    for kind in sorted(BYTE_KINDS):
        for length in (1, 63, 257):
            text = BYTE_KINDS[kind](rng, length).tolist()
            other = BYTE_KINDS[kind](rng, 5).tolist()
            prompts += [[256, *text, 257, *text, 258], [256, *text, 257, *other], text]
    return prompts


def _extended(checkpoint: Checkpoint, ids: list[int]) -> list[float | None]:
    """Log-probabilities of one call of `Decoder.extend`."""
    state = checkpoint.decoder.new_state(n_pages=16, page_size=64, n_slots=1)
    batch = RaggedBatch(
        token_ids=np.array(ids, np.int64),
        starts=np.array([0, len(ids)], np.int64),
        context_lens=np.zeros(1, np.int64),
        slots=np.zeros(1, np.int64),
        block_tables=np.arange(16, dtype=np.int32)[None],
    )
    rows = np.arange(len(ids), dtype=np.int64)
    logits = checkpoint.decoder.extend(batch, state, rows).logits.numpy()
    return _scores(logits, ids)


def _forwarded(checkpoint: Checkpoint, ids: list[int]) -> list[float | None]:
    """Log-probabilities of one call of `Decoder.forward`, as in training."""
    with torch.no_grad():
        logits = checkpoint.decoder.forward(torch.tensor([ids]))[0].numpy()
    return _scores(logits, ids)


def _scores(
    logits: np.ndarray[tuple[int, ...], np.dtype[np.float32]], ids: list[int]
) -> list[float | None]:
    known = [token_logprob(row, id, 0).logprob for row, id in zip(logits, ids[1:], strict=False)]
    return [None, *known]


def _score(client: OpenAI, prompts: list[list[int]], max_tokens: int) -> list[CompletionChoice]:
    return client.completions.create(
        model=Settings().checkpoint[0].name,
        prompt=prompts,
        echo=True,
        logprobs=1,
        max_tokens=max_tokens,
    ).choices


@pytest.mark.parametrize("max_tokens", [0, 1])
def test_scores_are_those_of_the_decoder(
    client: OpenAI, checkpoint: Checkpoint, max_tokens: int
) -> None:
    prompts = _prompts()
    assert max(map(len, prompts)) > 500  # more than a step takes at once
    choices = [
        choice
        for first in range(0, len(prompts), 16)
        for choice in _score(client, prompts[first : first + 16], max_tokens)
    ]
    for ids, choice in zip(prompts, choices, strict=True):
        assert choice.logprobs is not None
        got: list[float | None] = list(choice.logprobs.token_logprobs or [])
        assert len(got) == len(ids) + max_tokens
        assert got[: len(ids)] == _extended(checkpoint, ids)  # to the last bit
        forwarded = np.array(_forwarded(checkpoint, ids)[1:], float)
        extended = np.array(got[1 : len(ids)], float)
        np.testing.assert_allclose(extended, forwarded, rtol=0, atol=FORWARD_TOLERANCE)


def test_what_is_not_greedy_shows_in_the_scores(client: OpenAI) -> None:
    ids = [256, *b"hello", 257, *b"hexlo"]
    (choice,) = _score(client, [ids], 0)
    assert choice.logprobs is not None
    tops = list(choice.logprobs.top_logprobs or [])
    values = list(choice.logprobs.token_logprobs or [])
    greedy = [max(top.values()) == value for top, value in zip(tops[7:], values[7:], strict=True)]
    assert greedy == [True, True, False, True, True]
