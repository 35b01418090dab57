"""Behind a proxy that serves everything below a path of its own, and removes that path."""

from collections.abc import Iterator

import pytest

from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer, serve
from tests.server.session_client import NOBODY, SessionClient


@pytest.fixture(scope="module", params=["/copier", "/copier/"])
def below(request: pytest.FixtureRequest) -> Iterator[LiveServer]:
    with serve(FakeModel(), make_settings(), root_path=request.param) as live:
        yield live


def test_what_was_made_is_where_the_answer_says(below: LiveServer) -> None:
    with below.client() as client:
        made = client.post("/sessions")
        id = made.json()["id"]
        SessionClient(client).turn(id, "hi")
        forked = client.post(f"/sessions/{id}/fork")
        restored = SessionClient(client).restore(
            NOBODY, client.get(f"/sessions/{id}/snapshot").content
        )
        for response in (made, forked, restored):
            assert response.status_code == 201
            location = response.headers["location"]
            assert location == f"/copier/sessions/{response.json()['id']}"
            # The proxy removes what comes before.
            assert (
                client.get(location.removeprefix("/copier")).json()["id"] == response.json()["id"]
            )


def test_the_documentation_leads_to_the_server(below: LiveServer, shared: LiveServer) -> None:
    with below.client() as client:
        assert client.get("/openapi.json").json()["servers"] == [{"url": "/copier"}]
        for page in ("/docs", "/redoc"):
            assert "/copier/openapi.json" in client.get(page).text
    with shared.client() as client:
        assert "servers" not in client.get("/openapi.json").json()


def test_errors_say_what_is_right_for_the_proxy(below: LiveServer) -> None:
    with below.client() as client:
        message = client.get("/nowhere").json()["error"]["message"]
        assert message.endswith("see /copier/docs")
        message = client.post("/v1/chat").json()["error"]["message"]
        assert "POST /copier/v1/completions" in message
        message = client.post("/v1//completions").json()["error"]["message"]
        assert message.endswith("did you mean /copier/v1/completions?")
