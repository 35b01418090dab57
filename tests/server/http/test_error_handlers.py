import pytest

from tests.server.live_server import LiveServer


@pytest.mark.parametrize(
    ("method", "path", "status", "type", "message"),
    [
        ("GET", "/nowhere", 404, "not_found", "GET /nowhere: there is nothing here; see /docs"),
        ("POST", "/generate/", 404, "not_found", "did you mean /generate?"),
        ("GET", "//health//ready", 404, "not_found", "did you mean /health/ready?"),
        ("GET", "/sessions/x//", 404, "not_found", "did you mean /sessions/x?"),
        ("GET", "/nowhere//", 404, "not_found", "GET /nowhere//: there is nothing here; see /docs"),
        ("GET", "//", 404, "not_found", "see /docs"),
        ("GET", "/%ED%A0%80", 404, "not_found", "there is nothing here"),
        ("GET", "/generate", 405, "method_not_allowed", "GET /generate: use POST"),
        ("DELETE", "/info", 405, "method_not_allowed", "DELETE /info: use GET, HEAD"),
        ("POST", "/docs", 405, "method_not_allowed", "POST /docs: use GET, HEAD"),
        ("PATCH", "/sessions", 405, "method_not_allowed", "PATCH /sessions: use GET, HEAD, POST"),
    ],
)
def test_wrong_addresses_have_the_one_shape(
    shared: LiveServer, method: str, path: str, status: int, type: str, message: str
) -> None:
    with shared.client() as client:
        response = client.request(method, shared.url + path)
    assert response.status_code == status
    error = response.json()["error"]
    assert sorted(error) == ["message", "param", "type"]
    assert error["type"] == type
    assert message in error["message"]
    assert ("allow" in response.headers) == (status == 405)


@pytest.mark.parametrize("path", ["/v1//completions", "//v1/completions", "/v1/completions/"])
def test_openais_programs_are_told_what_is_right(shared: LiveServer, path: str) -> None:
    """A base URL that ends with a slash is a mistake that is easily made."""
    with shared.client() as client:
        response = client.post(shared.url + path, json={"prompt": "hi"})
    assert response.status_code == 404
    error = response.json()["error"]
    assert error["code"] == "not_found"
    assert error["message"].endswith("did you mean /v1/completions?")
