"""What both clients do when a request fails: they retry it, or say why not."""

import json
import pickle
from time import monotonic

import httpx
import pytest

from causalrn_client import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    ServiceUnavailableError,
)
from tests.clients.python.blocking import AnyClient
from tests.clients.python.conftest import Connect
from tests.clients.python.contract_server import GENERATION, Canned, ContractServer
from tests.clients.python.raw_server import Reply, http_reply, raw_server

AT_ONCE = {"Retry-After": "0"}


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
