import pytest

from tests.server.live_server import LiveServer


@pytest.mark.parametrize(
    ("method", "path", "status", "type", "message"),
    [
        ("GET", "/nowhere", 404, "not_found", "GET /nowhere: there is nothing here; see /docs"),
        ("POST", "/generate/", 404, "not_found", "POST /generate/: there is nothing here"),
        ("GET", "/%ED%A0%80", 404, "not_found", "there is nothing here"),
        ("GET", "/generate", 405, "method_not_allowed", "GET /generate: use POST"),
        ("DELETE", "/info", 405, "method_not_allowed", "DELETE /info: use GET"),
    ],
)
def test_wrong_addresses_have_the_one_shape(
    shared: LiveServer, method: str, path: str, status: int, type: str, message: str
) -> None:
    with shared.client() as client:
        response = client.request(method, path)
    assert response.status_code == status
    error = response.json()["error"]
    assert sorted(error) == ["message", "param", "type"]
    assert error["type"] == type
    assert message in error["message"]
    assert ("allow" in response.headers) == (status == 405)
