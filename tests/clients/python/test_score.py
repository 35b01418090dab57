"""How likely a completion is: what is asked for it, and how the answer is read."""

import json
import math
from typing import Any

import pytest

from causalrn_client import (
    InvalidRequestError,
    ResponseFormatError,
    Score,
    ScoredToken,
)
from tests.clients.python.blocking import AnyClient
from tests.clients.python.contract_server import Canned, ContractServer, tokens


def echoed(*told: tuple[int, float | None, int | None]) -> dict[str, Any]:
    """The answer about tokens: their ids, their log-probabilities, the likeliest in their place."""
    return {
        "id": "gen-1",
        "model": "mine",
        "text": "",
        "token_ids": [token_id for token_id, _, _ in told],
        "finish_reason": "length",
        "usage": {"prompt_tokens": 9, "completion_tokens": 0, "total_tokens": 9},
        "logprobs": [
            {
                "token_id": token_id,
                "logprob": logprob,
                "top": [] if likeliest is None else [{"token_id": likeliest, "logprob": -0.1}],
            }
            for token_id, logprob, likeliest in told
        ],
    }


def test_texts(client: AnyClient, server: ContractServer) -> None:
    whole = echoed((256, None, None), (97, -4, 1), (257, -5, 1), (98, -0.5, 98), (99, -1.5, 98))
    server.answer_next(tokens(256, 97, 257), tokens(98, 99), Canned.of(whole))
    score = client.score("a", "bc", model="mine", mode="copy", priority=1, request_id="r")
    assert score == Score(
        model="mine",
        tokens=[
            ScoredToken(token_id=98, logprob=-0.5, is_likeliest=True),
            ScoredToken(token_id=99, logprob=-1.5, is_likeliest=False),
        ],
    )
    assert (score.logprob, score.is_likeliest, score.perplexity) == (-2, False, math.e)
    framed, plain, asked = server.received
    assert framed.body == {
        "prompt": "a",
        "model": "mine",
        "mode": "copy",
        "add_special_tokens": True,
        "return_token_strs": False,
    }
    assert plain.body == framed.body | {"prompt": "bc", "add_special_tokens": False}
    assert asked.headers["x-request-id"] == "r"
    assert asked.body == {
        "model": "mine",
        "token_ids": [256, 97, 257, 98, 99],
        "mode": "raw",
        "max_tokens": 0,
        "echo": True,
        "logprobs": 1,
        "priority": 1,
    }


def test_ids(client: AnyClient, server: ContractServer) -> None:
    ids = [5, 6, 7]
    server.answer_next(Canned.of(echoed((5, None, None), (6, -1, 6), (7, -0.0, 7))))
    score = client.score(ids[:1], ids[1:])
    assert ([token.token_id for token in score.tokens], score.logprob) == ([6, 7], -1)
    assert score.is_likeliest
    assert server.received[0].body["token_ids"] == ids
    assert len(server.received) == 1


def test_a_context_that_the_server_tells_less_of(client: AnyClient, server: ContractServer) -> None:
    server.answer_next(Canned.of(echoed((7, -2, 7))))
    assert client.score([256, 257], [7]).logprob == -2


@pytest.mark.parametrize(
    ("prompt", "completion", "empty"),
    [([], [1], "prompt"), ([1], [], "completion"), ([], [], "completion")],
)
def test_nothing_to_score(
    client: AnyClient, server: ContractServer, prompt: list[int], completion: list[int], empty: str
) -> None:
    with pytest.raises(InvalidRequestError, match=f"the {empty} must not be empty"):
        client.score(prompt, completion)
    assert server.received == []


@pytest.mark.parametrize(
    "answer",
    [
        echoed((5, None, None), (8, -1, 8)),
        echoed((5, None, None)),
        echoed((5, None, None), (6, None, 6)),
        echoed((5, None, None), (6, -1, None)),
        echoed((5, None, None), (6, -1, 6)) | {"logprobs": None},
    ],
)
def test_answers_that_tell_something_else(
    client: AnyClient, server: ContractServer, answer: dict[str, Any]
) -> None:
    server.answer_next(Canned.of(answer))
    with pytest.raises(ResponseFormatError):
        client.score([5], [6])


def test_what_is_beyond_numbers() -> None:
    token = ScoredToken(token_id=1, logprob=-1000.0, is_likeliest=False)
    assert Score(model="m", tokens=[token]).perplexity == math.inf
    many = Score(model="m", tokens=[token.model_copy(update={"logprob": -0.1})] * 10)
    assert many.logprob == -1  # which a plain sum misses


def test_json_has_all_of_it() -> None:
    token = ScoredToken(token_id=1, logprob=-1.0, is_likeliest=True)
    written = json.loads(Score(model="m", tokens=[token]).model_dump_json())
    assert written["tokens"] == [{"token_id": 1, "logprob": -1, "is_likeliest": True}]
    assert (written["logprob"], written["is_likeliest"]) == (-1, True)
    assert written["perplexity"] == pytest.approx(math.e)
