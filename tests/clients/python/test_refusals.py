"""Answers that are refusals, or no answers of the server's, by their types."""

import json
import pickle

import pytest

from causalrn_client import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    DeadlineExceededError,
    InternalServerError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    RequestTooLargeError,
    ResponseFormatError,
    ServiceUnavailableError,
    UnprocessableEntityError,
)
from tests.clients.python.blocking import AnyClient
from tests.clients.python.conftest import Connect
from tests.clients.python.contract_server import GENERATION, Canned, ContractServer


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
