"""What browsers send for pages of other sites, without asking the server first."""

from collections.abc import Iterator

import pytest

from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer, serve

PAGE = "https://example.org"
APPS = ["tauri://localhost", "chrome-extension://abcdefghijklmnopabcdefghijklmnop"]


@pytest.fixture(scope="module")
def friendly() -> Iterator[LiveServer]:
    """A server whose settings name a page, and two apps."""
    with serve(FakeModel(), make_settings(cors_origins=",".join([PAGE, *APPS]))) as live:
        yield live


def page(origin: str, site: str = "cross-site") -> dict[str, str]:
    return {"origin": origin, "sec-fetch-site": site, "sec-fetch-mode": "no-cors"}


def n_sessions(live: LiveServer) -> int:
    with live.client() as client:
        return len(client.get("/sessions").json()["sessions"])


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:8000"])
def test_a_page_of_another_site_changes_nothing(shared: LiveServer, origin: str) -> None:
    with shared.client() as client:
        id = client.post("/sessions").json()["id"]
        before = n_sessions(shared)
        for method, path in (
            ("POST", "/sessions"),
            ("POST", f"/sessions/{id}/fork"),
            ("PUT", f"/sessions/{id}/snapshot"),
            ("DELETE", f"/sessions/{id}"),
            ("POST", "/generate"),
            ("POST", "/v1/completions"),
            ("POST", "/nowhere"),
        ):
            response = client.request(method, path, headers=page(origin))
            assert response.status_code == 403, path
            error = response.json()["error"]
            assert "cross_site_request" in (error["type"], error.get("code"))
            assert "CAUSALRN_CORS_ORIGINS" in error["message"]
            assert "x-request-id" in response.headers
            assert "access-control-allow-origin" not in response.headers
        assert n_sessions(shared) == before
        assert client.delete(f"/sessions/{id}").status_code == 204


def test_reading_is_no_change(shared: LiveServer) -> None:
    """The browser keeps what it reads from the page."""
    with shared.client() as client:
        response = client.get("/info", headers=page("https://evil.example"))
        assert response.status_code == 200
        assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("site", ["same-origin", "same-site", "none"])
def test_pages_of_this_site_and_people_are_served(shared: LiveServer, site: str) -> None:
    """The last is what a person typed."""
    headers = page("http://localhost:3000", site)
    assert shared.post({"prompt": "hi"}, headers=headers).status_code == 200


@pytest.mark.parametrize("origin", [PAGE, *APPS])
def test_pages_and_apps_that_the_settings_name_are_served(
    friendly: LiveServer, origin: str
) -> None:
    response = friendly.post({"prompt": "hi"}, headers=page(origin))
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == origin
    for other in ("https://evil.example", "tauri://other", "null"):
        assert friendly.post({"prompt": "hi"}, headers=page(other)).status_code == 403


def test_a_star_welcomes_all_pages() -> None:
    with serve(FakeModel(), make_settings(cors_origins="*")) as live:
        assert live.post({"prompt": "hi"}, headers=page("null")).status_code == 200
