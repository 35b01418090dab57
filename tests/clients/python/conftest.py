import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Protocol

import httpx
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from causalrn_client import Client
from tests.clients.python.blocking import AnyClient, BlockingAsyncClient, busy_connections
from tests.clients.python.contract_server import ContractServer


class Connect(Protocol):
    def __call__(self, base_url: str | None, **options: Any) -> AnyClient: ...


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")  # a proxy of the machine's has no part in these tests
    for name in ("CAUSALRN_API_KEY", "CAUSALRN_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def running_server() -> Iterator[ContractServer]:
    with ContractServer() as server:
        yield server


@pytest.fixture
def server(running_server: ContractServer) -> Iterator[ContractServer]:
    running_server.reset()
    yield running_server
    running_server.reset()


@pytest.fixture(scope="session")
def tls() -> ssl.SSLContext:
    return ssl.create_default_context()  # reading the certificates takes longer than most tests


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest, tls: ssl.SSLContext) -> Iterator[Connect]:
    """Makes clients, sync and async in turn; a connection that one of them leaks fails the test."""
    with ExitStack() as stack:
        clients: list[AnyClient] = []
        portal: BlockingPortal | None = None
        if request.param == "async":
            portal = stack.enter_context(start_blocking_portal())

        def make(base_url: str | None, **options: Any) -> AnyClient:
            if portal is None:
                http = stack.enter_context(httpx.Client(verify=tls))
                options = {"http_client": http} | options
                client: AnyClient = stack.enter_context(Client(base_url, **options))
            else:
                async_http = httpx.AsyncClient(verify=tls)
                stack.callback(portal.call, async_http.aclose)
                options = {"http_client": async_http} | options
                client = stack.enter_context(BlockingAsyncClient(portal, base_url, **options))
            clients.append(client)
            return client

        yield make
        assert [busy_connections(client) for client in clients] == [[] for _ in clients]


@pytest.fixture
def client(connect: Connect, server: ContractServer) -> AnyClient:
    return connect(server.url)


@pytest.fixture
def unused_url() -> Iterator[str]:
    """An address that refuses connections: bound, so that nobody else gets it, not listening."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
