"""The proxies and certificates that the environment asks for."""

import importlib.util
import json
import ssl
from pathlib import Path

import httpx
import pytest

from causalrn_client import APIConnectionError, AsyncClient, CausalRNError, Client
from causalrn_client.http_options import http_options
from causalrn_client.proxy import EnvironmentProxy
from tests.clients.python.blocking import AnyClient
from tests.clients.python.conftest import Connect
from tests.clients.python.contract_server import GENERATION, ContractServer
from tests.clients.python.raw_server import http_reply, raw_server

PROXY = "http://proxy.example:3128"
UNUSABLE = {
    "a port": "http://127.0.0.1:abc",
    "a scheme": "socks://127.0.0.1:1080",  # as some desktops set it
    "no host": "http://",
    "a password": "http://me:secret/word@proxy.example:3128",
}


@pytest.fixture(autouse=True)
def _nothing_set(_own_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{kind}_proxy", raising=False)
        monkeypatch.delenv(f"{kind}_proxy".upper(), raising=False)
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"):
        monkeypatch.delenv(variable, raising=False)


def own(connect: Connect, url: str) -> AnyClient:
    """A client that makes its own client of `httpx`."""
    return connect(url, http_client=None, max_retries=0)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_requests_go_through_a_proxy(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    with raw_server(http_reply(json.dumps(GENERATION).encode())) as proxy:
        monkeypatch.setenv(variable, proxy.url.removeprefix("http://"))
        client = own(connect, "http://models.invalid")
        assert client.generate("hi").text == "hi"
        assert proxy.connections == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
def test_what_runs_on_this_machine_is_asked_directly(
    connect: Connect, server: ContractServer, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    with raw_server() as proxy:
        for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(variable, proxy.url)
        client = own(connect, server.url.replace("127.0.0.1", host))
        assert client.generate("x").text == "x"
        assert client.session().open().generate("x").text == "x"
        assert proxy.connections == 0


def test_a_proxy_that_is_given_is_used_also_on_this_machine(server: ContractServer) -> None:
    with (
        raw_server(http_reply(json.dumps(GENERATION).encode())) as proxy,
        httpx.Client(proxy=proxy.url) as http,
        Client(server.url, http_client=http) as client,
    ):
        assert client.generate("hi").text == "hi"
        assert (proxy.connections, server.received) == (1, [])


@pytest.mark.parametrize(
    ("server", "exceptions", "is_excepted"),
    [
        ("http://gpu.example", "", False),
        ("http://gpu.example", "*", True),
        ("http://gpu.example", "a.example, *", True),
        ("http://gpu.example", "example", True),
        ("http://gpu.example", ".example", True),
        ("http://GPU.example", "gpu.EXAMPLE", True),
        ("http://gpu.example", "pu.example", False),
        ("http://gpu.example:8000", "gpu.example:8000", True),
        ("http://gpu.example", "gpu.example:80", True),
        ("https://gpu.example", "gpu.example:80", False),
        ("http://10.1.2.3:8000", "127.0.0.0/8,10.0.0.0/8", True),
        ("http://10.1.2.3", "10.1.2.3/8", True),
        ("http://11.1.2.3", "10.0.0.0/8", False),
        ("http://10.1.2.3", "10.1.2.3", True),
        ("http://[2001:db8::1]:8000", "localhost,[2001:db8::1]", True),
        ("http://[2001:db8::1]", "2001:0db8::1", True),
        ("http://[2001:db8::1]", "2001:db8::/32", True),
        ("http://[2001:db9::1]", "[2001:db8::]/32", False),
        ("http://gpu.example", "10.0.0.0/99,nonsense/8,[,", False),
        ("http://localhost.", "", True),
        ("http://me.localhost", "", True),
        ("http://localhost.example", "", False),
        ("http://127.1.2.3", "", True),
        ("http://0.0.0.0:8000", "", True),
        ("http://[::1]", "", True),
    ],
)
@pytest.mark.parametrize("variable", ["no_proxy", "NO_PROXY"])
def test_servers_without_a_proxy(
    monkeypatch: pytest.MonkeyPatch, variable: str, server: str, exceptions: str, is_excepted: bool
) -> None:
    monkeypatch.setenv("ALL_PROXY", PROXY)
    monkeypatch.setenv(variable, exceptions)
    assert (EnvironmentProxy.to(httpx.URL(server)) is None) == is_excepted


def test_a_scheme_s_own_proxy_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", PROXY)
    monkeypatch.setenv("HTTPS_PROXY", "https://secure.example")
    assert EnvironmentProxy.to(httpx.URL("http://gpu.example")) == EnvironmentProxy(
        httpx.URL(PROXY), "ALL_PROXY"
    )
    secure = EnvironmentProxy.to(httpx.URL("https://gpu.example"))
    assert secure == EnvironmentProxy(httpx.URL("https://secure.example"), "HTTPS_PROXY")
    assert http_options(httpx.URL("https://gpu.example"), secure)["proxy"] is not None


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("address", UNUSABLE.values(), ids=UNUSABLE)
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "all_proxy"])
def test_an_unusable_proxy_is_named(
    monkeypatch: pytest.MonkeyPatch,
    kind: type[Client | AsyncClient],
    address: str,
    variable: str,
) -> None:
    monkeypatch.setenv(variable, address)
    with pytest.raises(CausalRNError, match=f"^{variable} is not the address of a proxy") as caught:
        kind("http://gpu.example")
    assert "secret" not in str(caught.value)
    kind("http://localhost:8000")  # needs none


def test_a_socks_proxy_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("socksio") is not None:
        pytest.skip("the package for SOCKS is installed")
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    with pytest.raises(CausalRNError, match=r"^ALL_PROXY .* pip install 'httpx\[socks\]'"):
        Client("http://gpu.example")
    Client("http://localhost:8000")


def test_a_proxy_that_is_not_there_is_a_connection_error(
    connect: Connect, unused_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", unused_url)
    with pytest.raises(APIConnectionError, match="through the proxy of HTTP_PROXY") as caught:
        own(connect, "http://gpu.example").generate("x")
    assert not caught.value.may_have_arrived


def test_certificates_matter_to_https_alone(
    connect: Connect, server: ContractServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n")
    for variable, value in {
        "SSL_CERT_FILE": str(tmp_path / "missing.pem"),
        "SSL_CERT_DIR": str(tmp_path / "missing"),
        "SSLKEYLOGFILE": str(tmp_path / "missing" / "keys"),
    }.items():
        monkeypatch.setenv(variable, value)
        with pytest.raises(CausalRNError) as caught:
            Client("https://gpu.example")
        assert variable in str(caught.value)
        assert value in str(caught.value)
        assert own(connect, server.url).generate("x").text == "x"
        monkeypatch.delenv(variable)
    monkeypatch.setenv("SSL_CERT_FILE", str(broken))
    with pytest.raises(CausalRNError, match="SSL_CERT_FILE"):
        AsyncClient("https://gpu.example")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_nobody_is_trusted_without_a_certificate(scheme: str) -> None:
    verify = http_options(httpx.URL(f"{scheme}://gpu.example"), None)["verify"]
    assert verify.verify_mode == ssl.CERT_REQUIRED
    assert verify.check_hostname
    assert bool(verify.cert_store_stats()["x509_ca"]) == (scheme == "https")
