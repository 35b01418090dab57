import logging

import pytest

from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer, serve


@pytest.mark.parametrize("path", ["/health/live", "/nowhere", "/generate"])
def test_an_id_is_echoed_on_every_response(shared: LiveServer, path: str) -> None:
    with shared.client() as client:
        response = client.get(path, headers={"x-request-id": "abc-123_x.y:z"})
        assert response.headers["x-request-id"] == "abc-123_x.y:z"


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a;b", '"'])
def test_an_unfit_id_is_replaced(shared: LiveServer, given: str) -> None:
    with shared.client() as client:
        made = [
            client.get("/health/live", headers={"x-request-id": given}).headers["x-request-id"]
            for _ in range(2)
        ]
    assert made[0] != made[1]
    assert all(len(one) == 32 and one.isalnum() for one in made)


def test_a_stream_carries_its_id_and_the_log_too(
    shared: LiveServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "server")
    headers = {"x-request-id": "find-me"}
    response = shared.post({"prompt": "hi", "stream": True}, headers=headers)
    assert response.headers["x-request-id"] == "find-me"
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if line.endswith("request find-me")]


def test_an_unexpected_exception_is_a_500_in_the_one_shape(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with serve(FakeModel(), make_settings()) as live:

        @live.app.get("/broken")
        async def broken() -> None:
            raise ZeroDivisionError("secret")

        with live.client() as client:
            response = client.get("/broken", headers={"x-request-id": "find-me"})
        assert response.status_code == 500
        assert response.headers["x-request-id"] == "find-me"
        assert response.json() == {
            "error": {
                "type": "internal_error",
                "message": "the server failed; its log has the reason",
                "param": None,
            }
        }
    (record,) = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert record.getMessage().startswith("GET /broken: 500 internal_error in ")
    assert record.getMessage().endswith("request find-me")
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
