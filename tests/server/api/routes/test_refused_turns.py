"""Requests in sessions that are refused, and leave the session as it was."""

from typing import Any

import pytest

from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import serve
from tests.server.session_client import NOBODY, SessionClient, copied, error_type


def test_recall_needs_a_model_that_knows_it(own: SessionClient) -> None:
    response = own.post(own.create(), "hello", mode="recall")
    assert error_type(response, 422) == "invalid_request"
    assert response.json()["error"] == {
        "type": "invalid_request",
        "message": "mode: fake-copy was not trained for 'recall'; its modes are 'copy' and 'raw'",
        "param": "mode",
    }


def test_recall_needs_a_session(api: SessionClient) -> None:
    response = api.http.post("/generate", json={"prompt": "a", "mode": "recall"})
    assert error_type(response, 422) == "invalid_request"
    assert response.json()["error"]["message"] == "mode: 'recall' needs a 'session_id'"
    assert response.json()["error"]["param"] == "mode"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"session_id": "ses-1", "prompt": "a"}, "session_id"),
        ({"session_id": NOBODY.upper(), "prompt": "a"}, "session_id"),
        ({"session_id": 5, "prompt": "a"}, "session_id"),
        ({"session_id": NOBODY, "prompt": ""}, "prompt"),
        ({"session_id": NOBODY, "token_ids": []}, "token_ids"),
        ({"session_id": NOBODY, "prompt": "", "mode": "recall"}, "prompt"),
        ({"session_id": NOBODY, "prompt": "a", "n": 2}, "n"),
        ({"session_id": NOBODY, "prompt": "a", "echo": True, "logprobs": 0}, "echo"),
        ({"session_id": NOBODY, "prompt": "a", "mode": 5}, "mode"),
        ({"prompt": "a", "mode": "chat"}, "mode"),
        ({"session_id": NOBODY, "prompt": "a", "wait_for_session": 1}, "wait_for_session"),
        ({"prompt": "a", "wait_for_session": True}, "wait_for_session"),
        ({"prompt": "a", "mode": "recall"}, "mode"),
        ({"prompt": "", "mode": "raw"}, "prompt"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(
    api: SessionClient, body: dict[str, Any], param: str
) -> None:
    response = api.http.post("/generate", json=body)
    assert error_type(response, 422) == "invalid_request"
    assert response.json()["error"]["param"] == param


def test_an_empty_session_has_nothing_to_go_on_from(api: SessionClient) -> None:
    id = api.create()
    response = api.post(id, "", mode="raw")
    assert error_type(response, 409) == "session_empty"
    assert response.json()["error"]["param"] == "prompt"
    assert error_type(api.http.get(f"/sessions/{id}/snapshot"), 409) == "session_empty"
    assert not api.get(id)["busy"]


def test_a_refused_turn_leaves_no_trace(api: SessionClient) -> None:
    id = api.create()
    api.turn(id, "hello")
    before = api.get(id)
    for options in ({"max_tokens": 20_000}, {"mode": "copy"}, {"mode": "recall"}, {"mode": "chat"}):
        response = api.post(id, [256], **options)
        assert error_type(response, 422) == "invalid_request"
    after = api.get(id)
    del before["age_seconds"], after["age_seconds"]
    assert after == before
    assert api.log(id) == copied("hello")


def test_a_full_session_is_413(model: FakeModel) -> None:
    with serve(model, make_settings(max_session_tokens=40)) as live, live.client() as client:
        api = SessionClient(client)
        assert client.get("/info").json()["limits"]["max_session_tokens"] == 40
        id = api.create()
        api.turn(id, "x" * 10)
        refused = api.post(id, "y" * 15)
        assert error_type(refused, 413) == "session_full"
        assert "the session has 23 already, it takes at most 7 more if" in refused.text
        assert error_type(api.post(id, "y" * 8), 413) == "session_full"
        answer = api.turn(id, "y" * 7)
        assert (answer["text"], answer["finish_reason"]) == ("y" * 7, "stop")
        assert len(api.log(id)) == 40
        assert error_type(api.post(id, "z"), 413) == "session_full"
        assert error_type(api.post(id, "", mode="raw"), 413) == "session_full"
        assert error_type(api.post(api.create(), "z" * 40), 422) == "invalid_request"
        assert len(api.log(id)) == 40
