"""Both clients, whole answers, against a real server."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import httpx
import pytest

from causalrn_client import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AsyncClient,
    AuthenticationError,
    BadRequestError,
    Client,
    DeadlineExceededError,
    InternalServerError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    RequestTooLargeError,
    ResponseFormatError,
    Sample,
    ServiceUnavailableError,
    UnprocessableEntityError,
    Usage,
    __version__,
)
from tests.clients.python.blocking import AnyClient, open_connections
from tests.clients.python.conftest import Connect
from tests.clients.python.contract_server import Canned, ContractServer
from tests.clients.python.raw_server import Reply, http_reply, raw_server

AT_ONCE = {"Retry-After": "0"}
GENERATION: dict[str, Any] = {
    "id": "gen-1",
    "model": "copy-bytes",
    "text": "hi",
    "token_ids": [104, 105],
    "finish_reason": "stop",
    "usage": {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6},
}


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


def test_info_keeps_what_it_does_not_know(client: AnyClient) -> None:
    info = client.info()
    assert info.model == "copy-bytes"
    assert info.config["mixers"] == ["separable", "normalized"]
    assert info.limits == {"max_seq_len": 4096}
    assert (info.fingerprint, info.tokenizer["name"]) == ("00ff", "bytes")
    assert info.model_extra == {"moon_phase": "waxing"}


@pytest.mark.parametrize("base", ["/behind/a%2Fproxy", "/behind/a%2Fproxy/"])
def test_base_url_may_hold_a_path(connect: Connect, server: ContractServer, base: str) -> None:
    assert connect(server.url + base).generate("x").text == "x"
    assert server.received[0].path == "/behind/a%2Fproxy/generate"


@pytest.mark.parametrize(
    "base", ["localhost:8000", "127.0.0.1", "", "ftp://host", "http://", "http://h?q", "http://h#f"]
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_base_url_is_checked(kind: type[Client | AsyncClient], base: str) -> None:
    with pytest.raises(ValueError, match="base_url"):
        kind(base)


def test_headers_go_with_every_request(connect: Connect, server: ContractServer) -> None:
    client = connect(server.url, headers={"Authorization": "Bearer k", "user-agent": "mine"})
    client.generate("x")
    client.info()
    for received in server.received:
        assert received.headers["authorization"] == "Bearer k"
        assert received.headers["user-agent"] == "mine"


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


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequestError),
        (401, AuthenticationError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (408, RequestTimeoutError),
        (413, RequestTooLargeError),
        (422, UnprocessableEntityError),
        (429, RateLimitError),
        (500, InternalServerError),
        (503, ServiceUnavailableError),
        (504, APIStatusError),
        (418, APIStatusError),
    ],
)
@pytest.mark.parametrize("way", ["generate", "stream"])
def test_refusals_are_typed(
    connect: Connect, server: ContractServer, status: int, kind: type[APIStatusError], way: str
) -> None:
    client = connect(server.url, max_retries=0)
    server.answer_next(Canned.error(status, "some_error", "because", "prompt"))
    with pytest.raises(APIStatusError) as caught:
        client.generate("x") if way == "generate" else client.stream("x").result()
    error = caught.value
    assert type(error) is kind
    assert (error.status_code, error.type, error.param) == (status, "some_error", "prompt")
    assert (error.message, error.request_id) == ("because", "made-by-server")
    assert str(error) == f"{status} some_error: because [request made-by-server]"
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (str(again), again.headers) == (str(error), error.headers)


@pytest.mark.parametrize("way", ["generate", "stream"])
def test_a_deadline_is_typed_and_not_retried(
    client: AnyClient, server: ContractServer, way: str
) -> None:
    message = "the request took longer than 2 s"
    server.answer_next(Canned.error(504, "deadline_exceeded", message))
    with pytest.raises(DeadlineExceededError, match=message) as caught:
        client.generate("x") if way == "generate" else client.stream("x").result()
    assert (caught.value.status_code, caught.value.type) == (504, "deadline_exceeded")
    assert type(pickle.loads(pickle.dumps(caught.value))) is DeadlineExceededError
    assert len(server.received) == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>Bad Request</html>", "<html>Bad Request</html>"),
        (b"", "Bad Request"),
        (b'{"detail": "elsewhere"}', '{"detail": "elsewhere"}'),
        (b'{"error": "a string"}', '{"error": "a string"}'),
        (b'{"error": {"type": 5, "message": null}}', '{"error": {"type": 5, "message": null}}'),
        (b"[" * 100_000, "[" * 200),
        ("ü".encode() * 5000, "ü" * 200),
        (b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
def test_refusals_of_others_are_shown(
    client: AnyClient, server: ContractServer, body: bytes, message: str
) -> None:
    server.answer_next(Canned(400, body))
    with pytest.raises(BadRequestError) as caught:
        client.generate("x")
    assert caught.value.type is None
    assert caught.value.message == message


def test_a_redirect_is_a_refusal(client: AnyClient, server: ContractServer) -> None:
    server.answer_next(Canned(307, b"", {"location": "/elsewhere"}))
    with pytest.raises(APIStatusError) as caught:
        client.generate("x")
    assert caught.value.status_code == 307


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>", "not JSON"),
        (b"", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"[" * 100_000, "not JSON"),
        (json.dumps(GENERATION | {"usage": None}).encode(), "usage"),
        (json.dumps(GENERATION | {"token_ids": ["1"]}).encode(), r"token_ids\.0"),
        (json.dumps(GENERATION | {"token_ids": [True]}).encode(), r"token_ids\.0"),
        (json.dumps(GENERATION | {"logprobs": [{"token_id": 1}]}).encode(), r"logprobs\.0"),
        (json.dumps(GENERATION | {"samples": [GENERATION]}).encode(), r"samples\.0\.index"),
        (json.dumps(GENERATION | {"text": "\ud800"}).encode(), "not JSON"),
        (b'{"id": "gen-1"}', "model"),
    ],
)
def test_other_answers_are_format_errors(
    client: AnyClient, server: ContractServer, body: bytes, message: str
) -> None:
    server.answer_next(Canned(body=body))
    with pytest.raises(ResponseFormatError, match=message):
        client.generate("x")
    assert len(server.received) == 1


def test_an_answer_that_is_not_compressed_as_it_says(
    client: AnyClient, server: ContractServer
) -> None:
    server.answer_next(Canned(headers={"content-encoding": "gzip"}))
    with pytest.raises(ResponseFormatError, match="decompressed"):
        client.generate("x")


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
@pytest.mark.parametrize("way", ["generate", "stream"])
def test_transient_refusals_are_retried(
    client: AnyClient, server: ContractServer, status: int, way: str
) -> None:
    server.answer_next(*[Canned(status, headers=AT_ONCE)] * 2)
    answer = client.generate("x") if way == "generate" else client.stream("x").result()
    assert answer.text == "x"
    assert len(server.received) == 3
    assert [r.body for r in server.received] == [server.received[0].body] * 3


def test_retries_end(client: AnyClient, server: ContractServer) -> None:
    server.answer_next(*[Canned(503, headers=AT_ONCE)] * 4)
    with pytest.raises(ServiceUnavailableError):
        client.generate("x")
    assert len(server.received) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 500, 501])
def test_other_refusals_are_not_retried(
    client: AnyClient, server: ContractServer, status: int
) -> None:
    server.answer_next(Canned(status, headers=AT_ONCE))
    with pytest.raises(APIStatusError):
        client.generate("x")
    assert len(server.received) == 1


def test_retry_after_is_waited_for(client: AnyClient, server: ContractServer) -> None:
    server.answer_next(Canned(503, headers={"Retry-After": "0.9"}))
    started = monotonic()
    client.generate("x")
    # More than the half second of a first wait that the server does not ask for.
    assert 0.9 <= monotonic() - started < 5


def test_a_cut_connection_is_retried(connect: Connect) -> None:
    body = json.dumps(GENERATION).encode()
    whole = http_reply(body)
    with raw_server(Reply(), Reply(whole.content[:-10]), whole) as server:
        assert connect(server.url).generate("hi").text == "hi"
        assert server.connections == 3


def test_a_cut_connection_is_an_error_in_the_end(connect: Connect) -> None:
    with raw_server() as server:
        with pytest.raises(APIConnectionError, match=server.url):
            connect(server.url, max_retries=1).generate("hi")
        assert server.connections == 2


def test_another_protocol_is_a_connection_error(connect: Connect) -> None:
    with (
        raw_server(Reply(b"SSH-2.0-OpenSSH_9.6\r\n")) as server,
        pytest.raises(APIConnectionError),
    ):
        connect(server.url, max_retries=0).generate("hi")


def test_a_refused_connection(connect: Connect, unused_url: str) -> None:
    with pytest.raises(APIConnectionError, match=unused_url):
        connect(unused_url, max_retries=0).generate("hi")


def test_errors_do_not_show_passwords(connect: Connect, unused_url: str) -> None:
    url = unused_url.replace("http://", "http://user:secret@")
    with pytest.raises(APIConnectionError, match=unused_url) as caught:
        connect(url, max_retries=0).generate("hi")
    assert "secret" not in str(caught.value)


def test_a_slow_answer_times_out_and_is_not_asked_for_again(connect: Connect) -> None:
    with raw_server(Reply(then_silence=True)) as server:
        with pytest.raises(APITimeoutError, match="read") as caught:
            connect(server.url, timeout=httpx.Timeout(20, read=0.5)).generate("hi")
        assert caught.value.phase == "read"
        assert server.connections == 1
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.phase) == (str(caught.value), "read")


def test_ready(client: AnyClient, server: ContractServer) -> None:
    assert client.ready() is True
    assert server.received[0].path == "/health/ready"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_not_ready(client: AnyClient, server: ContractServer, status: int) -> None:
    server.answer_next(Canned(status))
    assert client.ready() is False
    assert len(server.received) == 1


def test_not_ready_when_nobody_answers(connect: Connect, unused_url: str) -> None:
    assert connect(unused_url).ready() is False


def test_ready_does_not_hide_a_wrong_address(client: AnyClient, server: ContractServer) -> None:
    server.answer_next(Canned(404))
    with pytest.raises(NotFoundError):
        client.ready()


def test_connections_are_used_again(client: AnyClient) -> None:
    for text in ("a", "b", "c"):
        client.generate(text)
    assert len(open_connections(client)) == 1


def test_close_closes_the_connections(connect: Connect, server: ContractServer) -> None:
    with connect(server.url, http_client=None) as client:
        client.generate("x")
        assert open_connections(client)
    assert open_connections(client) == []
    with pytest.raises(RuntimeError, match="closed"):
        client.generate("x")


def test_close_leaves_a_borrowed_http_client_open(server: ContractServer) -> None:
    with httpx.Client(headers={"x-mine": "1"}) as http:
        with Client(server.url, http_client=http) as client:
            client.generate("x")
        assert not http.is_closed
        assert server.received[0].headers["x-mine"] == "1"


@pytest.mark.anyio
async def test_close_leaves_a_borrowed_async_http_client_open(server: ContractServer) -> None:
    async with httpx.AsyncClient(headers={"x-mine": "1"}) as http:
        async with AsyncClient(server.url, http_client=http) as client:
            await client.generate("x")
        assert not http.is_closed
        assert server.received[0].headers["x-mine"] == "1"


def test_negative_retries_are_refused() -> None:
    with pytest.raises(ValueError, match="max_retries"):
        Client(max_retries=-1)


def test_threads_may_share_a_client(client: AnyClient) -> None:
    texts = [f"text {n}" for n in range(32)]
    with ThreadPoolExecutor(8) as pool:
        assert [g.text for g in pool.map(client.generate, texts)] == texts
