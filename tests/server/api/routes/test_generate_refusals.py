"""Requests that are refused, each with a message that says why."""

import pytest

from tests.server.conftest import make_settings
from tests.server.fake_model import letters
from tests.server.live_server import LiveServer, serve
from tests.server.session_client import assert_error

NINES = b"9" * 400
BAD: list[tuple[bytes, int, str | None, str]] = [
    # body, status, field, part of the message
    (b"", 400, None, "empty"),
    (b"{", 400, None, "line 1, column 2"),
    (b'{"prompt": "a"} x', 400, None, "Extra data"),
    (b'{"prompt": "\xff"}', 400, None, "byte 12"),
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
    (b'{"prompt": "%s"}' % (b"x" * 5000), 422, "prompt", "at most 2046 if the answer"),
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
    (b'{"prompt": "a", "max_tokens": 131073}', 422, "max_tokens", "at most 131072"),
    (b'{"prompt": "a", "max_tokens": %s}' % NINES, 422, "max_tokens", "at most 131072"),
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
    (b'{"prompt": "a", "top_k": -2}', 422, "top_k", "-1"),
    (b'{"prompt": "a", "top_k": %s}' % NINES, 422, "top_k", "less than"),
    (b'{"prompt": "a", "top_p": 0}', 422, "top_p", "0"),
    (b'{"prompt": "a", "top_p": 1.01}', 422, "top_p", "1"),
    (b'{"prompt": "a", "top_p": NaN}', 422, "top_p", "finite"),
    (b'{"prompt": "a", "seed": -2}', 422, "seed", "-1"),
    (b'{"prompt": "a", "seed": %s}' % NINES, 422, "seed", "less than"),
    (b'{"prompt": "a", "stop": 5}', 422, "stop", "a string or a list of strings"),
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
    assert_error(response.json(), "prompt", "at most 2046 if the answer is to be whole")


def test_after_bad_input_the_next_request_works(shared: LiveServer) -> None:
    assert shared.post({"prompt": "hello"}).json()["text"] == "hello"


def test_a_character_that_the_tokenizer_lacks_is_named() -> None:
    with serve(letters(), make_settings()) as live:
        assert live.post({"prompt": "abc"}).json()["text"] == "abc"
        response = live.post({"prompt": "ab é"})
        assert response.status_code == 422
        assert_error(response.json(), "prompt", "character ' ' at position 2")
