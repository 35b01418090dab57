import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from model.state import RaggedBatch
from server.api.schemas.generate import GenerateChunk, GenerateResponse
from tests.server.conftest import Gate, make_settings
from tests.server.fake_model import FakeModel, letters
from tests.server.live_server import LiveServer, events, serve

TEXTS = ["hello", "a", "grüße, 世界 👩‍🚀", "aaaa" * 40, " ", "\n\t\0", '{"a": [1, 2]}']


@pytest.fixture
def live(model: FakeModel) -> Iterator[LiveServer]:
    """A server of one's own, for tests that hold it up or break it."""
    with serve(model, make_settings()) as live:
        yield live


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
    steps = 0

    def hold_the_fourth(batch: RaggedBatch) -> None:
        nonlocal steps
        steps += 1
        if steps == 4:
            gate(batch)

    live.model.decoder.before_extend = hold_the_fourth
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


def test_ids_sampling_and_limits_are_taken(shared: LiveServer) -> None:
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


def test_null_is_as_good_as_leaving_it_out(shared: LiveServer) -> None:
    body = {"prompt": "hi", "token_ids": None, "max_tokens": None, "seed": None, "stop": None}
    assert shared.post(body).json()["text"] == "hi"


NINES = b"9" * 400
BAD: list[tuple[bytes, int, str | None, str]] = [
    # body, status, field, part of the message
    (b"", 400, None, "empty"),
    (b"{", 400, None, "line 1, column 2"),
    (b'{"prompt": "a"} x', 400, None, "Extra data"),
    (b'{"prompt": "\xff"}', 400, None, "byte 12"),
    (b'\xef\xbb\xbf{"prompt": "a"}', 400, None, "BOM"),
    ('{"prompt": "a"}'.encode("utf-16"), 400, None, "not UTF-8"),
    (b'{"prompt": "a\nb"}', 400, None, "control character"),
    (b'{"prompt": "a", "prompt": "b"}', 400, None, "key 'prompt' appears twice"),
    (b'{"prompt": "a", "x": {"\\ud800": 1, "\\ud800": 1}}', 400, None, r"key '\ud800'"),
    (b"[" * 60_000, 400, None, "nested too deeply"),
    (b'{"prompt":' * 6_000, 400, None, "nested too deeply"),
    (b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}", 400, None, "too many digits"),
    (b"[]", 422, None, "must be a JSON object"),
    (b"null", 422, None, "must be a JSON object"),
    (b'"prompt"', 422, None, "must be a JSON object"),
    (b"{}", 422, "prompt", "not neither"),
    (b'{"prompt": null}', 422, "prompt", "not neither"),
    (b'{"prompt": "a", "token_ids": [1]}', 422, "prompt", "not both"),
    (b'{"prompt": "a", "promt": 1}', 422, "promt", "unknown field 'promt'"),
    (b'{"prompt": "a", "\\ud800": 1}', 422, None, "lone surrogate"),
    (b'{"prompt": "a", "%s": 1}' % (b"x" * 9000), 422, "x" * 100 + "…", "unknown field"),
    (b'{"prompt": ""}', 422, "prompt", "must not be empty"),
    (b'{"prompt": 5}', 422, "prompt", "string"),
    (b'{"prompt": ["a"]}', 422, "prompt", "string"),
    (b'{"prompt": NaN}', 422, "prompt", "string"),
    (b'{"prompt": "a\\ud800b"}', 422, "prompt", r"'\ud800' at position 1"),
    (b'{"prompt": "%s"}' % (b"x" * 5000), 422, "prompt", "at most 4093"),
    (b'{"prompt": "%s"}' % (b"x" * 2000), 413, "prompt", "memory pool holds 1024"),
    (b'{"token_ids": []}', 422, "token_ids", "must not be empty"),
    (b'{"token_ids": "ab"}', 422, "token_ids", "list"),
    (b'{"token_ids": [1, "2"]}', 422, "token_ids[1]", "integer"),
    (b'{"token_ids": [true]}', 422, "token_ids[0]", "integer"),
    (b'{"token_ids": [1.5]}', 422, "token_ids[0]", "integer"),
    (b'{"token_ids": [1, 2, 259]}', 422, "token_ids[2]", "between 0 and 258"),
    (b'{"token_ids": [-1]}', 422, "token_ids[0]", "between 0 and 258"),
    (b'{"token_ids": [%s]}' % NINES, 422, "token_ids[0]", "between 0 and 258"),
    (b'{"token_ids": [257]}', 422, "token_ids[0]", "special id SEP"),
    (b'{"prompt": "a", "max_tokens": 0}', 422, "max_tokens", "1"),
    (b'{"prompt": "a", "max_tokens": -1}', 422, "max_tokens", "0"),
    (b'{"prompt": "a", "n": 0}', 422, "n", "1"),
    (b'{"prompt": "a", "n": 33}', 422, "n", "32"),
    (b'{"prompt": "a", "logprobs": 21}', 422, "logprobs", "20"),
    (b'{"prompt": "a", "logprobs": -1}', 422, "logprobs", "0"),
    (b'{"prompt": "a", "min_p": 1.5}', 422, "min_p", "1"),
    (b'{"prompt": "a", "priority": 11}', 422, "priority", "10"),
    (b'{"prompt": "a", "timeout": 0}', 422, "timeout", "0"),
    (b'{"prompt": "a", "timeout": 1e999}', 422, "timeout", ""),
    (b'{"prompt": "a", "echo": 1}', 422, "echo", "bool"),
    (b'{"prompt": "a", "ignore_eos": "yes"}', 422, "ignore_eos", "bool"),
    (b'{"prompt": "a", "max_tokens": "5"}', 422, "max_tokens", "integer"),
    (b'{"prompt": "a", "max_tokens": true}', 422, "max_tokens", "integer"),
    (b'{"prompt": "a", "max_tokens": 5.5}', 422, "max_tokens", "integer"),
    (b'{"prompt": "a", "max_tokens": 1e400}', 422, "max_tokens", "integer"),
    (b'{"prompt": "a", "seed": 1e300}', 422, "seed", "less than"),
    (b'{"prompt": "a", "max_tokens": 16385}', 422, "max_tokens", "at most 16384"),
    (b'{"prompt": "a", "max_tokens": %s}' % NINES, 422, "max_tokens", "at most 16384"),
    (b'{"prompt": "a", "max_tokens": 4094}', 422, "max_tokens", "at most 4093"),
    (b'{"prompt": "a", "temperature": -0.1}', 422, "temperature", "0"),
    (b'{"prompt": "a", "temperature": 2.1}', 422, "temperature", "2"),
    (b'{"prompt": "a", "temperature": "1"}', 422, "temperature", "number"),
    (b'{"prompt": "a", "temperature": true}', 422, "temperature", "number"),
    (b'{"prompt": "a", "temperature": NaN}', 422, "temperature", "finite"),
    (b'{"prompt": "a", "temperature": -Infinity}', 422, "temperature", "finite"),
    (b'{"prompt": "a", "temperature": 1e999}', 422, "temperature", "finite"),
    (b'{"prompt": "a", "temperature": %s}' % NINES, 422, "temperature", "number"),
    (b'{"prompt": "a", "temperature": null}', 422, "temperature", "number"),
    (b'{"prompt": "a", "top_k": -1}', 422, "top_k", "0"),
    (b'{"prompt": "a", "top_k": %s}' % NINES, 422, "top_k", "less than"),
    (b'{"prompt": "a", "top_p": 0}', 422, "top_p", "0"),
    (b'{"prompt": "a", "top_p": 1.01}', 422, "top_p", "1"),
    (b'{"prompt": "a", "top_p": NaN}', 422, "top_p", "finite"),
    (b'{"prompt": "a", "seed": -1}', 422, "seed", "0"),
    (b'{"prompt": "a", "seed": %s}' % NINES, 422, "seed", "less than"),
    (b'{"prompt": "a", "stop": 5}', 422, "stop", "a string or a list of strings"),
    (b'{"prompt": "a", "stop": ""}', 422, "stop[0]", "at least 1 character"),
    (b'{"prompt": "a", "stop": ["b", 5]}', 422, "stop[1]", "string"),
    (b'{"prompt": "a", "stop": ["\\ud800"]}', 422, "stop[0]", "lone surrogate"),
    (b'{"prompt": "a", "stop": ["b", "c", "d", "e", "f"]}', 422, "stop", "at most 4"),
    (b'{"prompt": "a", "stop": "%s"}' % (b"x" * 257), 422, "stop[0]", "at most 256"),
    (b'{"prompt": "a", "stream": 1}', 422, "stream", "boolean"),
    (b'{"prompt": "a", "stream": "true"}', 422, "stream", "boolean"),
]


@pytest.mark.parametrize(
    ("body", "status", "param", "message"),
    BAD,
    ids=[f"{i}-{body[:40]!r}" for i, (body, *_) in enumerate(BAD)],
)
def test_bad_input_is_refused_in_one_shape(
    shared: LiveServer, body: bytes, status: int, param: str | None, message: str
) -> None:
    response = shared.post(body)
    assert response.status_code == status
    assert_error(response.json(), param, message)
    assert response.headers["x-request-id"]


def test_a_stream_is_refused_with_a_status_too(shared: LiveServer) -> None:
    response = shared.post({"prompt": "x" * 5000, "stream": True})
    assert response.status_code == 422
    assert_error(response.json(), "prompt", "at most 4093")


def assert_error(answer: Any, param: str | None, message: str) -> None:
    assert list(answer) == ["error"]
    assert list(answer["error"]) == ["type", "message", "param"]
    assert re.fullmatch("[a-z_]+", answer["error"]["type"])
    assert message in answer["error"]["message"]
    assert answer["error"]["param"] == param


def test_after_all_that_the_next_request_works(shared: LiveServer) -> None:
    assert shared.post({"prompt": "hello"}).json()["text"] == "hello"


def test_a_character_that_the_tokenizer_lacks_is_named() -> None:
    with serve(letters(), make_settings()) as live:
        assert live.post({"prompt": "abc"}).json()["text"] == "abc"
        response = live.post({"prompt": "ab é"})
        assert response.status_code == 422
        assert_error(response.json(), "prompt", "character ' ' at position 2")


def test_a_full_queue_is_503_before_the_first_byte(live: LiveServer, gate: Gate) -> None:
    live.model.decoder.before_extend = gate
    connections = [live.connect() for _ in range(24)]
    for connection in connections:
        live.send_generate(connection, {"prompt": "hello", "stream": True})
        assert connection.recv(12) == b"HTTP/1.1 200"
    for stream in (False, True):
        refused = live.post({"prompt": "hello", "stream": stream})
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["type"] == "overloaded"
    gate.open()
    for connection in connections:
        connection.close()


def test_a_failed_step_is_a_500_and_the_server_goes_on(live: LiveServer) -> None:
    def fail(_: RaggedBatch) -> None:
        raise RuntimeError("injected")

    live.model.decoder.before_extend = fail
    response = live.post({"prompt": "hello"})
    assert response.status_code == 500
    assert_error(response.json(), None, "the engine failed")
    assert response.json()["error"]["type"] == "engine_error"
    live.model.decoder.before_extend = lambda _: None
    assert live.post({"prompt": "hello"}).json()["text"] == "hello"


def test_a_failed_step_in_mid_stream_is_an_error_event(live: LiveServer) -> None:
    steps = 0

    def fail_the_third(_: RaggedBatch) -> None:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise RuntimeError("injected")

    live.model.decoder.before_extend = fail_the_third
    *chunks, error = events(live.post({"prompt": "hello", "stream": True}))
    assert "".join(chunk["text"] for chunk in chunks) == "he"
    assert_error(error, None, "the engine failed")


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


def test_what_was_read_before_is_told(shared: LiveServer) -> None:
    text = "a text that is longer than a page of sixteen tokens"
    assert shared.post({"prompt": text}).json()["usage"]["cached_tokens"] == 0
    assert shared.post({"prompt": text}).json()["usage"]["cached_tokens"] == 48


@pytest.mark.parametrize("stream", [False, True])
def test_a_deadline(live: LiveServer, gate: Gate, stream: bool) -> None:
    live.model.decoder.before_extend = gate
    response = live.post({"prompt": "hello", "timeout": 0.1, "stream": stream})
    gate.open()
    if stream:
        assert events(response)[-1]["error"]["type"] == "deadline_exceeded"
    else:
        assert response.status_code == 504
        assert response.json()["error"]["type"] == "deadline_exceeded"
