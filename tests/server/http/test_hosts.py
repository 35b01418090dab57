"""A name that leads to this machine does not make a page one of its own."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from pydantic import ValidationError

from causalrn.model.ops.cpu import jit
from causalrn.server.application import create_app
from causalrn.server.auth.key_format import new_key
from causalrn.server.settings import Settings
from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer, serve
from tests.server.raw_http import exchange, statuses

OURS = [
    "localhost", "LOCALHOST:8000", "localhost:", "localhost.", "app.localhost:3000", "127.0.0.1",
    "127.0.0.1:8000", "127.8.9.1", "[::1]", "[::1]:8000", "[::ffff:127.0.0.1]",
]  # fmt: skip
OTHERS = [
    "evil.example", "evil.example:8000", "localhost.evil.example", "evillocalhost", "192.0.2.1",
    "127.0.0.1.evil.example", "128.0.0.1", "[::2]", "0.0.0.0", "", ":8000", "127.1",
    "xn--localhost",
]  # fmt: skip


@pytest.fixture(scope="module")
def keyless() -> Iterator[LiveServer]:
    """A server on a loopback address, whose settings say nothing of hosts and keys."""
    with serve(FakeModel(), make_settings(hosts="")) as live:
        yield live


def asked(live: LiveServer, host: str, path: str = "/info") -> httpx.Response:
    with live.client() as client:
        return client.get(path, headers={"host": host})


@pytest.mark.parametrize("host", OURS)
def test_the_names_of_this_machine_are_answered(keyless: LiveServer, host: str) -> None:
    assert asked(keyless, host).status_code == 200


@pytest.mark.parametrize("host", OTHERS)
def test_other_names_are_misdirected(keyless: LiveServer, host: str) -> None:
    for path in ("/info", "/health", "/metrics", "/nowhere", "/docs"):
        response = asked(keyless, host, path)
        assert response.status_code == 421
        assert response.json()["error"]["type"] == "misdirected_request"
        assert "CAUSALRN_HOSTS" in response.json()["error"]["message"]
        assert "x-request-id" in response.headers


def test_openais_programs_are_told_in_their_shape(keyless: LiveServer) -> None:
    response = asked(keyless, "evil.example", "/v1/models")
    assert response.status_code == 421
    assert response.json()["error"]["code"] == "misdirected_request"


def test_a_page_whose_name_was_led_here_makes_nothing(keyless: LiveServer) -> None:
    """As its browser sends it, to which this is the page's own site."""
    page = {"host": "evil.example:8000", "origin": "http://evil.example:8000"}
    page["sec-fetch-site"] = "same-origin"
    with keyless.client() as client:
        assert client.post("/sessions", headers=page).status_code == 421
        assert client.get("/sessions").json()["sessions"] == []


def test_names_in_the_settings_are_answered() -> None:
    with serve(FakeModel(), make_settings(hosts="Models.example.org , proxy_1")) as live:
        assert asked(live, "models.example.org:443").status_code == 200
        assert asked(live, "proxy_1").status_code == 200
        assert asked(live, "localhost").status_code == 200
        assert asked(live, "example.org").status_code == 421


def test_a_server_with_keys_answers_to_any_name() -> None:
    """A page has no key, so its name does not matter."""
    key, digest = new_key()
    keys = json.dumps([{"name": "tester", "hash": digest}])
    with (
        serve(FakeModel(), make_settings(api_keys=keys, hosts="")) as live,
        live.client() as client,
    ):
        headers = {"host": "models.example.org", "authorization": f"Bearer {key}"}
        assert client.get("/info", headers=headers).status_code == 200
        del headers["authorization"]
        assert client.get("/info", headers=headers).status_code == 401


@contextmanager
def client_of_socket(settings: Settings, path: Path) -> Iterator[httpx.Client]:
    """A client of a server whose address is no loopback address, and which no network reaches."""
    jit.num_threads()  # here, as a server that has the main thread would
    app = create_app(settings, load=lambda _: FakeModel())
    server = uvicorn.Server(uvicorn.Config(app, uds=str(path), log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.002)
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@pytest.mark.parametrize(("hosts", "status"), [("", 200), ("models.example.org", 421)])
def test_elsewhere_than_on_loopback_the_settings_decide(
    tmp_path: Path, hosts: str, status: int
) -> None:
    with client_of_socket(make_settings(hosts=hosts), tmp_path / "socket") as client:
        assert client.get("http://any.example/info").status_code == status
        for host in ("models.example.org", "localhost"):
            assert client.get(f"http://{host}/info").status_code == 200


@pytest.mark.parametrize("hosts", ["http://a.b", "a.b:80", "*", "*.a.b", "a b", "a/b"])
def test_what_is_no_name_is_refused(hosts: str) -> None:
    with pytest.raises(ValidationError, match="is no name of a host, such as"):
        make_settings(hosts=hosts)


@pytest.mark.parametrize(
    "hosts",
    [
        [],
        [b"localhost", b"localhost"],
        [b"localhost", b"evil.example"],
        [b"evil.example", b"localhost"],
        [b"local host"],
        [b"localhost/path"],
        [b"user@localhost"],
        [b"localhost:80a"],
        [b"[::1"],
        [b"localhost, evil.example/"],
        [b"\xff"],
    ],
)
def test_a_request_without_one_valid_host_is_400(keyless: LiveServer, hosts: list[bytes]) -> None:
    """What a proxy would make of it is anybody's guess."""
    lines = [b"GET /info HTTP/1.1", b"connection: close", *(b"host: " + host for host in hosts)]
    (answer,) = exchange(keyless, b"\r\n".join([*lines, b"", b""]))
    assert statuses(answer) == [400]
    assert json.loads(answer.rpartition(b"\r\n\r\n")[2])["error"]["type"] == "malformed_request"


def test_http_1_0_needs_no_host(keyless: LiveServer) -> None:
    (answer,) = exchange(keyless, b"GET /info HTTP/1.0\r\n\r\n")
    assert statuses(answer) == [200]
    (answer,) = exchange(keyless, b"GET /info HTTP/1.0\r\nhost: evil.example\r\n\r\n")
    assert statuses(answer) == [421]
