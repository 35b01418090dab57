import pytest

from tests.server.conftest import Gate, make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer, serve


def test_an_idle_server_is_live_and_ready(shared: LiveServer) -> None:
    with shared.client() as client:
        assert client.get("/health/live").json() == {"status": "live"}
        for path in ("/health", "/health/ready"):
            response = client.get(path)
            assert response.status_code == 200
            assert response.headers["cache-control"] == "no-store"
            assert response.json() == {
                "status": "ready", "running": 0, "waiting": 0, "pages_used": 0, "pages_total": 64,
            }  # fmt: skip


def test_a_busy_server_says_how_busy(model: FakeModel, gate: Gate) -> None:
    with serve(model, make_settings()) as live, live.client() as client:
        model.decoder.before_extend = gate
        with live.connect() as connection:
            live.send_generate(connection, {"prompt": "x" * 12})
            assert gate.reached.wait(10)
            busy = {"status": "ready", "running": 1, "waiting": 0, "pages_used": 1}
            assert client.get("/health/ready").json() == busy | {"pages_total": 64}
            gate.open()


@pytest.mark.parametrize("path", ["/health", "/health/ready"])
def test_a_stuck_engine_is_live_but_not_ready(model: FakeModel, gate: Gate, path: str) -> None:
    with serve(model, make_settings(stall_seconds=0.1)) as live, live.client() as client:
        model.decoder.before_extend = gate
        # The request is not left hanging.
        response = live.post({"prompt": "hello"})
        assert response.status_code == 500
        assert response.json()["error"]["type"] == "engine_error"
        response = client.get(path)
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert response.json()["error"]["type"] == "not_ready"
        assert client.get("/health/live").status_code == 200
        gate.open()
        live.wait_until_idle()
        assert client.get(path).status_code == 200
