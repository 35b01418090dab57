"""Answers that come back whole."""

import json
import re

import pytest

from causalrn.server.api.schemas.generate import GenerateChunk, GenerateResponse
from tests.server.conftest import Gate
from tests.server.live_server import LiveServer, events
from tests.server.steps import AtStep

TEXTS = ["hello", "a", "grüße, 世界 👩‍🚀", "aaaa" * 40, " ", "\n\t\0", '{"a": [1, 2]}']


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_comes_back(live: LiveServer, text: str) -> None:
    response = live.post({"prompt": text})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    answer = response.json()
    ids = list(text.encode())
    assert re.fullmatch("gen-[0-9a-f]{32}", answer.pop("id"))
    assert answer == {
        "model": "fake-copy",
        "text": text,
        "token_ids": ids,
        "finish_reason": "stop",
        "match": None,
        "verified": True,
        "usage": {
            "prompt_tokens": len(ids) + 2,
            "completion_tokens": len(ids),
            "total_tokens": 2 * len(ids) + 2,
            "cached_tokens": 0,
        },
    }


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_streams_back(live: LiveServer, text: str) -> None:
    response = live.post({"prompt": text, "stream": True})
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-accel-buffering"] == "no"
    *chunks, done = events(response)
    ids = list(text.encode())
    assert done == "[DONE]"
    assert "".join(chunk["text"] for chunk in chunks) == text
    assert [token_id for chunk in chunks for token_id in chunk["token_ids"]] == ids
    assert {(chunk["id"], chunk["model"]) for chunk in chunks} == {(chunks[0]["id"], "fake-copy")}
    *before, last = chunks
    assert all(chunk["finish_reason"] is None and "usage" not in chunk for chunk in before)
    assert last["finish_reason"] == "stop"
    assert last["usage"] == {
        "prompt_tokens": len(ids) + 2,
        "completion_tokens": len(ids),
        "total_tokens": 2 * len(ids) + 2,
        "cached_tokens": 0,
    }


def test_tokens_leave_as_they_are_made(live: LiveServer, gate: Gate) -> None:
    live.model.decoder.before_extend = AtStep(4, gate)
    with (
        live.client() as client,
        client.stream("POST", "/generate", json={"prompt": "hello", "stream": True}) as response,
    ):
        lines = response.iter_lines()
        text = ""
        while len(text) < 3:
            line = next(lines)
            text += json.loads(line.removeprefix("data: "))["text"] if line else ""
        assert text == "hel"
        gate.open()
        assert list(lines)[-2] == "data: [DONE]"


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_is_not_emitted(shared: LiveServer, stream: bool) -> None:
    response = shared.post({"prompt": "one, two, three", "stop": [", th", "zz"], "stream": stream})
    chunks = events(response)[:-1] if stream else [response.json()]
    assert "".join(chunk["text"] for chunk in chunks) == "one, two"
    ids = [token_id for chunk in chunks for token_id in chunk["token_ids"]]
    assert bytes(ids) == b"one, two, th"
    assert chunks[-1]["finish_reason"] == "stop"
    assert chunks[-1]["usage"]["completion_tokens"] == 12


def test_ids_sampling_options_and_limits_are_taken(shared: LiveServer) -> None:
    body = {
        "token_ids": [104, 105, 106],
        "max_tokens": 2,
        "temperature": 1,
        "top_k": 1,
        "top_p": 0.5,
        "seed": 2**63 - 1,
        "stop": "never",
    }
    answer = shared.post(body).json()
    assert (answer["text"], answer["finish_reason"]) == ("hi", "length")


def test_a_seed_repeats_a_draw(shared: LiveServer) -> None:
    body = {"prompt": "hello", "max_tokens": 30, "temperature": 2.0, "seed": 1}
    first, second, other = (shared.post(body | {"seed": seed}).json() for seed in (1, 1, 2))
    assert first["token_ids"] == second["token_ids"] != other["token_ids"]


def test_a_field_that_is_null_has_its_default(shared: LiveServer) -> None:
    body = {"prompt": "hi", "token_ids": None, "max_tokens": None, "seed": None, "stop": None}
    assert shared.post(body).json()["text"] == "hi"


def test_several_samples(shared: LiveServer) -> None:
    answer = shared.post({"prompt": "several", "n": 3}).json()
    assert [one["text"] for one in answer["samples"]] == ["several"] * 3
    assert [one["index"] for one in answer["samples"]] == [0, 1, 2]
    assert answer["text"] == "several"
    assert answer["usage"]["completion_tokens"] == 21
    GenerateResponse.model_validate(answer)


def test_several_samples_in_a_stream(shared: LiveServer) -> None:
    *chunks, done = events(shared.post({"prompt": "several", "n": 3, "stream": True}))
    assert done == "[DONE]"
    for index in range(3):
        own = [chunk for chunk in chunks if chunk["index"] == index]
        assert "".join(chunk["text"] for chunk in own) == "several"
        reasons = [chunk["finish_reason"] for chunk in own]
        assert reasons == [None] * (len(own) - 1) + ["stop"]
    assert ["usage" in chunk for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1]["usage"]["completion_tokens"] == 21
    for chunk in chunks:
        GenerateChunk.model_validate(chunk)


@pytest.mark.parametrize("stream", [False, True])
def test_log_probabilities_and_echo(shared: LiveServer, stream: bool) -> None:
    body = {"prompt": "hé", "logprobs": 1, "echo": True, "stream": stream}
    response = shared.post(body)
    chunks = events(response)[:-1] if stream else [response.json()]
    for chunk in chunks:
        (GenerateChunk if stream else GenerateResponse).model_validate(chunk)
    token_ids = [token_id for chunk in chunks for token_id in chunk["token_ids"]]
    logprobs = [one for chunk in chunks for one in chunk["logprobs"]]
    assert "".join(chunk["text"] for chunk in chunks) == "héhé"
    assert token_ids == list("héhé".encode())
    assert [one["token_id"] for one in logprobs] == token_ids
    assert all(len(one["top"]) == 1 and one["logprob"] <= 0 for one in logprobs)
    assert chunks[-1]["usage"]["completion_tokens"] == 3


def test_a_prompt_is_scored_without_generating(shared: LiveServer) -> None:
    answer = shared.post({"prompt": "abc", "max_tokens": 0, "echo": True, "logprobs": 0}).json()
    assert (answer["text"], answer["finish_reason"]) == ("abc", "length")
    assert len(answer["logprobs"]) == 3
    assert answer["usage"]["completion_tokens"] == 0


def test_a_request_can_go_on_after_eos(shared: LiveServer) -> None:
    answer = shared.post({"prompt": "ab", "max_tokens": 4, "ignore_eos": True}).json()
    assert answer["token_ids"] == [97, 98, 258, 258]
    assert (answer["text"], answer["finish_reason"]) == ("ab", "length")


def test_usage_counts_cached_tokens(shared: LiveServer) -> None:
    text = "a text that is longer than a page of sixteen tokens"
    assert shared.post({"prompt": text}).json()["usage"]["cached_tokens"] == 0
    assert shared.post({"prompt": text}).json()["usage"]["cached_tokens"] == 48
