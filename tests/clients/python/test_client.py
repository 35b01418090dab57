"""The life of both clients: their address, their connections, their end."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from causalrn_client import (
    AsyncClient,
    Client,
    NotFoundError,
)
from tests.clients.python.blocking import AnyClient, open_connections
from tests.clients.python.conftest import Connect
from tests.clients.python.contract_server import Canned, ContractServer


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
