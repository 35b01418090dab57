from typing import Any

import httpx
import pytest

from tests.server.live_server import LiveServer

CHANGING = ("content-length", "date", "x-request-id")  # from one answer to the next


def lasting(response: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name not in CHANGING}


@pytest.fixture(scope="module")
def session(shared: LiveServer) -> str:
    with shared.client() as client:
        id: str = client.post("/sessions").json()["id"]
        client.post("/generate", json={"session_id": id, "prompt": "hi"}).raise_for_status()
    return id


def every_get(live: LiveServer) -> list[str]:
    """The paths of all routes that take `GET`."""
    routers: list[Any] = live.app.state.routers
    return [one.path for router in routers for one in router.routes if "GET" in one.methods]


def test_head_is_answered_wherever_get_is(shared: LiveServer, session: str) -> None:
    paths = every_get(shared)
    assert {"/info", "/health", "/metrics", "/docs", "/v1/models"} <= {*paths}
    with shared.client() as client:
        for path in (*paths, "/nowhere"):
            path = path.replace("{session_id}", session).replace("{name}", "fake-copy")
            got, head = client.get(path), client.head(path)
            assert head.status_code == got.status_code, path
            assert head.content == b""
            assert lasting(head) == lasting(got)
            assert int(head.headers["content-length"]) > 0


def test_head_of_what_is_only_posted_is_405(shared: LiveServer) -> None:
    with shared.client() as client:
        response = client.head("/generate")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
