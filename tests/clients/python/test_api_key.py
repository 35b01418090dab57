"""The API key, the address and the model that a client has from its arguments or environment."""

import pickle
import traceback
from typing import Any

import pytest

from causalrn_client import (
    APIConnectionError,
    AsyncClient,
    AuthenticationError,
    Client,
    InvalidRequestError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
)
from tests.clients.python.blocking import AnyClient
from tests.clients.python.conftest import Connect
from tests.clients.python.contract_server import Canned, ContractServer

KEY = "crn-0123456789abcdef~!"


def test_the_key_goes_with_every_request(connect: Connect, server: ContractServer) -> None:
    client = connect(server.url, api_key=KEY)
    client.generate("x")
    client.stream("x").result()
    client.info()
    assert client.ready()
    with client.session() as session:
        session.read("x")
    sent = [received.headers.get("authorization") for received in server.received]
    assert sent == [f"Bearer {KEY}"] * 7


def test_from_the_environment(
    connect: Connect, server: ContractServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(server.url).info()
    assert "authorization" not in server.received[0].headers
    monkeypatch.setenv("CAUSALRN_API_KEY", KEY)
    monkeypatch.setenv("CAUSALRN_BASE_URL", server.url)
    connect(None).info()
    connect(None, api_key="other").info()
    connect(None, headers={"authorization": "Basic eDp5"}).info()
    sent = [received.headers["authorization"] for received in server.received[1:]]
    assert sent == [f"Bearer {KEY}", "Bearer other", "Basic eDp5"]
    monkeypatch.setenv("CAUSALRN_API_KEY", "")
    connect(None).info()
    assert "authorization" not in server.received[-1].headers


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("key", ["", "two words", "line\n", "schlüssel", "\x7f"])
def test_what_cannot_be_a_key(
    kind: type[Client | AsyncClient], key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="api_key") as caught:
        kind(api_key=key)
    assert not key or key not in str(caught.value)
    if key:
        monkeypatch.setenv("CAUSALRN_API_KEY", key)
        with pytest.raises(ValueError, match="CAUSALRN_API_KEY"):
            kind()


def test_without_an_environment_the_address_is_the_server_s_own() -> None:
    assert repr(Client()) == "Client('http://127.0.0.1:8000')"


def test_the_key_is_shown_nowhere(
    connect: Connect, server: ContractServer, unused_url: str
) -> None:
    client = connect(server.url.replace("//", "//user:secret@"), api_key=KEY)
    told = [repr(client)]
    server.answer_next(Canned.error(401, "unauthorized", "this server wants an API key"))
    for ask in (
        lambda: client.generate("x"),
        lambda: connect(unused_url, api_key=KEY, max_retries=0).info(),
        lambda: connect(server.url, api_key=KEY, headers={"x-bad": f"{KEY}\n"}).info(),
    ):
        with pytest.raises(
            (AuthenticationError, APIConnectionError, InvalidRequestError)
        ) as caught:
            ask()
        told += [str(caught.value), repr(caught.value), repr(pickle.dumps(caught.value))]
    assert [KEY in text or "secret" in text for text in told] == [False] * 10
    assert server.url in told[0]


def test_a_header_that_cannot_be_sent_is_not_shown(
    connect: Connect, server: ContractServer
) -> None:
    with pytest.raises(InvalidRequestError, match="no header can hold") as caught:
        connect(server.url, headers={"authorization": "Bearer k\n"}).info()
    assert "Bearer" not in "".join(traceback.format_exception_only(caught.value))


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (401, "unauthorized", AuthenticationError),
        (403, "forbidden", PermissionDeniedError),
    ],
)
@pytest.mark.parametrize("way", ["generate", "stream", "session", "info"])
def test_a_wrong_key_is_typed_and_not_tried_again(
    client: AnyClient, server: ContractServer, status: int, kind: str, error: Any, way: str
) -> None:
    server.answer_next(Canned.error(status, kind, "no"))
    ways: dict[str, Any] = {
        "generate": lambda: client.generate("x"),
        "stream": lambda: client.stream("x").result(),
        "session": lambda: client.session().open(),
        "info": client.info,
    }
    with pytest.raises(error):
        ways[way]()
    assert len(server.received) == 1


def test_a_limit_that_is_soon_over_is_waited_for(client: AnyClient, server: ContractServer) -> None:
    body = Canned.error(429, "rate_limited", "slow down").body
    server.answer_next(Canned(429, body, {"retry-after": "0"}))
    assert client.generate("x").text == "x"
    assert len(server.received) == 2


def test_a_limit_that_lasts_is_told_at_once(client: AnyClient, server: ContractServer) -> None:
    body = Canned.error(429, "rate_limited", "your quota is used up").body
    server.answer_next(Canned(429, body, {"retry-after": "3600"}))
    with pytest.raises(RateLimitError, match="quota") as caught:
        client.generate("x")
    assert caught.value.retry_after == 3600
    assert pickle.loads(pickle.dumps(caught.value)).retry_after == 3600
    assert len(server.received) == 1


@pytest.mark.parametrize("kind", ["request_timeout", "proxy_timeout"])
def test_a_turn_that_did_not_arrive_is_sent_again(
    connect: Connect, server: ContractServer, kind: str
) -> None:
    session = connect(server.url).session(server.sessions.add().id)
    body = Canned.error(408, kind, "the body did not arrive in time").body
    server.answer_next(Canned(408, body, {"retry-after": "0"}))
    if kind == "request_timeout":
        assert session.generate("x").text == "x"
    else:
        with pytest.raises(RequestTimeoutError):
            session.generate("x")
    assert len(server.received) == (2 if kind == "request_timeout" else 1)


def test_the_model_of_the_client(connect: Connect, server: ContractServer) -> None:
    client = connect(server.url, model="mine")
    client.generate("x")
    client.generate("x", model="other")
    client.stream("x").result()
    client.session().open().generate("x")
    server.sessions.add(busy=False)
    client.session(model="other").open()
    client.info()
    bodies = [(r.body or {}).get("model", r.query) for r in server.received]
    assert bodies == ["mine", "other", "mine", "mine", "", "other", "model=mine"]


def test_a_session_that_is_there_has_its_own(client: AnyClient) -> None:
    with pytest.raises(ValueError, match="model is for a session that is yet to be made"):
        client.session("ses-1", model="mine")
