"""What browsers are told: headers of every response, and which pages may use the server."""

import base64
import hashlib
import re
from collections.abc import Iterator

import httpx
import pytest
from pydantic import ValidationError

from causalrn.server.http.head_limits import MAX_HEADER_BYTES, MAX_HEADERS, MAX_URL_BYTES
from causalrn.server.http.secure_headers import SECURE_HEADERS
from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer, serve

PAGE = "https://example.org"
CDN = "https://cdn.jsdelivr.net"


def assert_secure(response: httpx.Response) -> None:
    for name, value in SECURE_HEADERS.items():
        assert response.headers.get_list(name) == [value]


def test_the_secure_headers_are_these() -> None:
    """The other tests compare with the constant, whatever it holds."""
    assert SECURE_HEADERS == {
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "x-frame-options": "DENY",
        "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
        "cross-origin-resource-policy": "same-origin",
    }


@pytest.fixture(scope="module")
def open_to_page() -> Iterator[LiveServer]:
    origins = f" {PAGE} ,http://localhost:3000"
    with serve(FakeModel(), make_settings(cors_origins=origins)) as live:

        @live.app.get("/broken")
        async def broken() -> None:
            raise ZeroDivisionError

        yield live


def test_every_response_has_the_secure_headers(open_to_page: LiveServer) -> None:
    with open_to_page.client() as client:
        for method, path, status in (
            ("GET", "/health/live", 200),
            ("GET", "/info", 200),
            ("GET", "/nowhere", 404),
            ("GET", "/generate", 405),
            ("POST", "/generate", 415),
            ("GET", "/broken", 500),
            ("GET", "/" + "x" * 10_000, 414),
            ("GET", "/openapi.json", 200),
        ):
            response = client.request(method, path)
            assert response.status_code == status
            assert_secure(response)
    for stream in (False, True):
        response = open_to_page.post({"prompt": "hi", "stream": stream})
        assert response.status_code == 200
        assert_secure(response)


@pytest.mark.parametrize(("path", "n_scripts"), [("/docs", 1), ("/redoc", 0)])
def test_the_documentation_may_load_what_it_needs(
    shared: LiveServer, path: str, n_scripts: int
) -> None:
    """As a browser reads the policy: what it does not name is not loaded, and nothing is shown."""
    with shared.client() as client:
        response = client.get(path)
    (policy,) = response.headers.get_list("content-security-policy")
    directives = [directive.split() for directive in policy.split("; ")]
    sources = {name: set(allowed) for name, *allowed in directives}
    assert sources["default-src"] == {"'none'"}
    scripts = re.findall(r"<script>(.*?)</script>", response.text, re.DOTALL)
    assert len(scripts) == n_scripts
    digests = [base64.b64encode(hashlib.sha256(one.encode()).digest()) for one in scripts]
    assert sources["script-src"] == {CDN, *(f"'sha256-{digest.decode()}'" for digest in digests)}
    assert sources["style-src"] == {CDN, "'unsafe-inline'"}
    loaded = re.findall(r'<script src="([^"]+)"', response.text)
    assert len(loaded) == 1
    loaded += re.findall(r'rel="stylesheet" href="([^"]+)"', response.text)
    assert all(url.startswith(f"{CDN}/") for url in loaded)
    assert sources["connect-src"] == {"'self'"}  # for what they show, which is here
    assert '"/openapi.json"' in response.text.replace("'", '"')
    assert response.headers["x-frame-options"] == "DENY"


def preflight(live: LiveServer, origin: str) -> httpx.Response:
    headers = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type",
    }
    with live.client() as client:
        return client.options("/generate", headers=headers)


def test_no_page_may_use_it_by_default(shared: LiveServer) -> None:
    response = preflight(shared, PAGE)
    assert response.status_code == 405
    assert "access-control-allow-origin" not in response.headers
    response = shared.post({"prompt": "hi"}, headers={"origin": PAGE})
    assert response.status_code == 200
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_pages_that_the_settings_name_may_use_it(open_to_page: LiveServer) -> None:
    response = preflight(open_to_page, PAGE)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == PAGE
    assert "authorization" in response.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in response.headers
    assert preflight(open_to_page, "http://localhost:3000").status_code == 200
    response = open_to_page.post({"prompt": "hi"}, headers={"origin": PAGE})
    assert response.headers["access-control-allow-origin"] == PAGE
    exposed = response.headers["access-control-expose-headers"].split(", ")
    assert {"x-request-id", "retry-after", "x-ratelimit-remaining-tokens"} <= {*exposed}


def test_pages_that_the_settings_name_can_read_errors(open_to_page: LiveServer) -> None:
    with open_to_page.client(headers={"origin": PAGE}) as client:
        for path in ("/nowhere", "/broken"):
            assert client.get(path).headers["access-control-allow-origin"] == PAGE


@pytest.mark.parametrize("origin", ["https://example.org.evil", "https://example.com", "null"])
def test_other_pages_may_not_use_it(open_to_page: LiveServer, origin: str) -> None:
    response = preflight(open_to_page, origin)
    assert response.status_code == 400
    assert "access-control-allow-origin" not in response.headers


def test_a_star_lets_all_pages_use_it() -> None:
    with serve(FakeModel(), make_settings(cors_origins="*")) as live:
        assert preflight(live, "https://any.where").headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    "origins", ["example.org", "https://example.org/", "https://a.b,c", "null", "https://*.a.b"]
)
def test_what_is_no_origin_is_refused(origins: str) -> None:
    with pytest.raises(ValidationError, match="is no origin, such as"):
        make_settings(cors_origins=origins)


@pytest.mark.parametrize(
    "origin",
    [
        "app://obsidian.md",
        "capacitor://localhost",
        "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
        "tauri://localhost",
        "vscode-webview://0d1f6s2m8q4k7h3n",
        "http://my_host:3000",
    ],
)
def test_apps_and_extensions_may_be_named(origin: str) -> None:
    assert make_settings(cors_origins=origin).cors_origins == (origin,)


@pytest.mark.parametrize(
    ("path", "headers", "status", "type"),
    [
        ("/" + "a" * MAX_URL_BYTES, {}, 414, "url_too_long"),
        ("/info?" + "a" * MAX_URL_BYTES, {}, 414, "url_too_long"),
        ("/info", {f"x-{i}": "1" for i in range(MAX_HEADERS)}, 431, "headers_too_large"),
        ("/info", {"x": "1" * MAX_HEADER_BYTES}, 431, "headers_too_large"),
        ("/health", {"x" * MAX_HEADER_BYTES: "1"}, 431, "headers_too_large"),
    ],
    ids=["path", "query", "many", "long value", "long name"],
)
def test_a_url_or_headers_over_the_limit_are_refused(
    shared: LiveServer, path: str, headers: dict[str, str], status: int, type: str
) -> None:
    with shared.client() as client:
        response = client.get(path, headers=headers)
        assert response.status_code == status
        assert response.json()["error"]["type"] == type
        assert "x-request-id" in response.headers
        assert client.get("/info").status_code == 200


def test_a_url_and_headers_up_to_the_limit_are_served(shared: LiveServer) -> None:
    with shared.client() as client:
        headers = {f"x-{i}": "1" * 300 for i in range(90)}
        assert client.get("/info?", headers=headers).status_code == 200
        assert client.get("/" + "a" * (MAX_URL_BYTES - 1)).status_code == 404
