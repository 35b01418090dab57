"""Requests that the engine cannot serve: too many, too late, or a step that fails."""

import pytest

from tests.server.conftest import Gate
from tests.server.live_server import LiveServer, events
from tests.server.session_client import assert_error
from tests.server.steps import AtStep, fail


def test_a_full_queue_is_503_before_the_first_byte(live: LiveServer, gate: Gate) -> None:
    live.model.decoder.before_extend = gate
    connections = [live.connect() for _ in range(24)]
    for connection in connections:
        live.send_generate(connection, {"prompt": "hello", "stream": True})
        assert connection.recv(12) == b"HTTP/1.1 200"
    for stream in (False, True):
        refused = live.post({"prompt": "hello", "stream": stream})
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["type"] == "overloaded"
    gate.open()
    for connection in connections:
        connection.close()


def test_a_failed_step_is_a_500_and_the_server_goes_on(live: LiveServer) -> None:
    live.model.decoder.before_extend = fail
    response = live.post({"prompt": "hello"})
    assert response.status_code == 500
    assert_error(response.json(), None, "the engine failed")
    assert response.json()["error"]["type"] == "engine_error"
    live.model.decoder.before_extend = lambda _: None
    assert live.post({"prompt": "hello"}).json()["text"] == "hello"


def test_a_failed_step_in_mid_stream_is_an_error_event(live: LiveServer) -> None:
    live.model.decoder.before_extend = AtStep(3, fail)
    *chunks, error = events(live.post({"prompt": "hello", "stream": True}))
    assert "".join(chunk["text"] for chunk in chunks) == "he"
    assert_error(error, None, "the engine failed")


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_ends_at_its_deadline(live: LiveServer, gate: Gate, stream: bool) -> None:
    live.model.decoder.before_extend = gate
    response = live.post({"prompt": "hello", "timeout": 0.1, "stream": stream})
    gate.open()
    if stream:
        assert events(response)[-1]["error"]["type"] == "deadline_exceeded"
    else:
        assert response.status_code == 504
        assert response.json()["error"]["type"] == "deadline_exceeded"
