"""Whole generations of both clients: what is sent, and what comes back."""

import json
from typing import Any

import pytest

from causalrn_client import (
    InvalidRequestError,
    Sample,
    Usage,
    __version__,
)
from tests.clients.python.blocking import AnyClient
from tests.clients.python.conftest import Connect
from tests.clients.python.contract_server import GENERATION, Canned, ContractServer


@pytest.mark.parametrize("text", ["hello", "Zürich → 東京 🚄", "\0\r\n\u2028 ", "a" * 100_000])
def test_generate_copies(client: AnyClient, text: str) -> None:
    generation = client.generate(text)
    assert generation.text == text
    assert generation.token_ids == list(text.encode())
    assert generation.finish_reason == "stop"
    n = len(text.encode())
    assert generation.usage == Usage(
        prompt_tokens=n + 2, completion_tokens=n, total_tokens=2 * n + 2
    )


def test_what_is_none_is_not_sent(client: AnyClient, server: ContractServer) -> None:
    client.generate("hello")
    (received,) = server.received
    assert (received.method, received.path) == ("POST", "/generate")
    assert received.body == {"prompt": "hello"}
    assert received.headers["user-agent"] == f"causalrn-client/{__version__}"
    assert received.headers["content-type"] == "application/json"
    assert "x-request-id" not in received.headers


def test_what_is_given_is_sent(client: AnyClient, server: ContractServer) -> None:
    fields: dict[str, Any] = {
        "token_ids": [104, 105],
        "max_tokens": 7,
        "temperature": 0.5,
        "top_k": 0,
        "top_p": 0.9,
        "min_p": 0.1,
        "n": 2,
        "seed": 0,
        "stop": ["a", "b"],
        "ignore_eos": False,
        "logprobs": 0,
        "echo": True,
        "priority": -3,
        "model": "copy-bytes",
        "min_tokens": 1,
        "allow_partial": True,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "repetition_penalty": 1.25,
    }
    bias = {97: -100, 98: 0.5}
    generation = client.generate(**fields, logit_bias=bias, deadline=2.5, request_id="mine")
    assert generation.text == "hi"
    sent = {"timeout": 2.5, "logit_bias": {"97": -100, "98": 0.5}}
    assert server.received[0].body == fields | sent
    assert server.received[0].headers["x-request-id"] == "mine"


def test_several_samples(client: AnyClient) -> None:
    generation = client.generate("hi", n=3)
    assert generation.samples == [
        Sample(index=index, text="hi", token_ids=[104, 105], finish_reason="stop")
        for index in range(3)
    ]
    assert (generation.text, generation.usage.completion_tokens) == ("hi", 6)


def test_an_older_server_is_understood(client: AnyClient, server: ContractServer) -> None:
    server.answer_next(Canned(body=json.dumps(GENERATION).encode()))
    generation = client.generate("hi")
    assert generation.usage.cached_tokens == 0
    assert (generation.logprobs, generation.samples) == (None, None)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": "a\ud800b"}, "prompt holds a lone surrogate, U\\+D800, at position 1"),
        ({"prompt": "a", "stop": ["ok", "\udfff"]}, "stop holds a lone surrogate, U\\+DFFF"),
        ({"prompt": "a", "temperature": float("nan")}, "not JSON compliant"),
        ({"prompt": "a", "deadline": float("inf")}, "not JSON compliant"),
        ({"prompt": "a", "request_id": "line\nbreak"}, "request_id"),
        ({"prompt": "a", "request_id": "é"}, "request_id"),
    ],
)
def test_what_cannot_be_sent_is_not(
    client: AnyClient, server: ContractServer, fields: dict[str, Any], message: str
) -> None:
    for ask in (client.generate, client.stream):
        with pytest.raises(InvalidRequestError, match=message):
            ask(**fields)
    assert server.received == []


def test_an_impossible_header_is_no_connection_error(
    connect: Connect, server: ContractServer
) -> None:
    with pytest.raises(InvalidRequestError):
        connect(server.url, headers={"x-tag": "line\nbreak"}).generate("x")
    assert server.received == []
