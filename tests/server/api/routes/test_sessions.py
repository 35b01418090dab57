"""Sessions as things that are made, listed, forked and deleted."""

import re
import time
from typing import Any

import pytest

from causalrn.server.api.schemas.sessions import Session
from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer, serve
from tests.server.session_client import NOBODY, SessionClient, copied, error_type


def test_a_new_session_is_empty_and_cold(api: SessionClient, recalling: LiveServer) -> None:
    before = time.time()
    response = api.http.post("/sessions", json={"ttl_seconds": 60})
    assert response.status_code == 201
    session = response.json()
    assert response.headers["location"] == f"/sessions/{session['id']}"
    assert response.headers["cache-control"] == "no-store"
    Session.model_validate(session)
    assert re.fullmatch("ses-[0-9a-f]{32}", session["id"])
    assert before - 1 <= session["created_at"] == session["used_at"] <= time.time() + 1
    assert session["expires_at"] == pytest.approx(session["used_at"] + 60)
    assert 0 <= session.pop("age_seconds") < 10
    times = {name: session.pop(name) for name in ("created_at", "used_at", "expires_at")}
    assert session == {
        "id": session["id"], "model": "fake-copy", "fingerprint": "0" * 64, "n_tokens": 0,
        "state": "cold", "busy": False, "pool_tokens": 0, "pool_bytes": 0, "pages_own": 0,
        "pages_shared": 0, "ttl_seconds": 60.0, "token_ids": None,
    }  # fmt: skip
    found = api.get(session["id"])
    assert found.pop("age_seconds") >= 0
    assert found == session | {name: pytest.approx(value) for name, value in times.items()}
    usage = recalling.engine.usage
    assert usage.pages_used == usage.sessions_warm == 0


@pytest.mark.parametrize("body", [b"", b"{}", b'{"ttl_seconds": null}', b"null"])
def test_a_session_needs_no_body(api: SessionClient, body: bytes) -> None:
    headers = {"content-type": "application/json"} if body else {}
    for path in ("/sessions", f"/sessions/{api.create()}/fork"):
        response = api.http.post(path, content=body, headers=headers)
        assert response.status_code == 201
        assert response.json()["ttl_seconds"] == 604_800


@pytest.mark.parametrize(
    ("body", "status", "param", "message"),
    [
        (b"{", 400, None, "not JSON"),
        (b'{"ttl_seconds": 1, "ttl_seconds": 1}', 400, None, "twice"),
        (b"[]", 422, None, "must be a JSON object"),
        (b'{"ttl": 5}', 422, "ttl", "unknown field 'ttl'"),
        (b'{"ttl_seconds": 0}', 422, "ttl_seconds", "greater than 0"),
        (b'{"ttl_seconds": "5"}', 422, "ttl_seconds", "number"),
        (b'{"ttl_seconds": NaN}', 422, "ttl_seconds", ""),
        (b'{"ttl_seconds": 604801}', 422, "ttl_seconds", "at most 604800"),
    ],
)
def test_a_bad_body_of_a_session_is_refused(
    api: SessionClient, body: bytes, status: int, param: str | None, message: str
) -> None:
    headers = {"content-type": "application/json"}
    for path in ("/sessions", f"/sessions/{api.create()}/fork"):
        response = api.http.post(path, content=body, headers=headers)
        error_type(response, status)
        assert response.json()["error"]["param"] == param
        assert message in response.json()["error"]["message"]
        plain = {"content-type": "text/plain"}
        response = api.http.post(path, content=body, headers=plain)
        assert error_type(response, 415) == "unsupported_media_type"


@pytest.mark.parametrize("id", [NOBODY, "ses-1", "nobody", "ses-" + "A" * 32, "%00", "ses-%ff"])
def test_an_unknown_session_is_404(api: SessionClient, id: str) -> None:
    for method, path in [
        ("GET", ""), ("GET", "?include=token_ids"), ("DELETE", ""), ("POST", "/fork"),
        ("GET", "/snapshot"),
    ]:  # fmt: skip
        response = api.http.request(method, f"/sessions/{id}{path}")
        assert error_type(response, 404) == "session_not_found"
    if re.fullmatch("ses-[0-9a-f]{32}", id):
        assert error_type(api.post(id, "hello"), 404) == "session_not_found"
        streamed = api.post(id, "hello", stream=True, wait_for_session=True)
        assert error_type(streamed, 404) == "session_not_found"


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("?limit=0", "limit"), ("?limit=1001", "limit"), ("?limit=x", "limit"),
        ("?limits=5", "limits"), ("?after=" + "x" * 65, "after"),
        (f"/{NOBODY}?include=all", "include"),
        (f"/{NOBODY}?includes=token_ids", "includes"),
    ],
)  # fmt: skip
def test_a_bad_query_is_refused(api: SessionClient, path: str, param: str) -> None:
    response = api.http.get(f"/sessions{path}")
    assert error_type(response, 422) == "invalid_request"
    assert response.json()["error"]["param"] == param


def test_sessions_are_listed_page_by_page_in_the_order_in_which_they_were_made(
    own: SessionClient,
) -> None:
    assert own.http.get("/sessions").json() == {"sessions": [], "next": None}
    ids = [own.create() for _ in range(7)]
    own.turn(ids[2], "hello")
    ids.append(own.fork(ids[2]))
    found: list[Any] = []
    after, n_pages = "", 0
    while True:
        response = own.http.get(f"/sessions?limit=3{after}")
        assert response.headers["cache-control"] == "no-store"
        page = response.json()
        found += page["sessions"]
        n_pages += 1
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert ([one["id"] for one in found], n_pages) == (ids, 3)
    assert [one["state"] for one in found] == ["cold"] * 2 + ["warm"] + ["cold"] * 4 + ["warm"]
    assert all(one["token_ids"] is None for one in found)
    exact = own.http.get("/sessions?limit=8").json()
    assert (len(exact["sessions"]), exact["next"]) == (8, None)
    for strange in ("%00", "zzz", "%F0%9F%9A%84"):
        assert own.http.get(f"/sessions?after={strange}").json()["sessions"] == []


def test_more_sessions_than_may_be_are_429(model: FakeModel) -> None:
    with serve(model, make_settings(max_sessions=2)) as live, live.client() as client:
        api = SessionClient(client)
        first, second = api.create(), api.create()
        api.turn(first, "hello")
        data = api.save(first)
        for response in (
            client.post("/sessions"),
            client.post(f"/sessions/{first}/fork"),
            api.restore(NOBODY, data),
        ):
            assert error_type(response, 429) == "too_many_sessions"
            assert response.headers["x-should-retry"] == "false"  # waiting does not help
            assert "retry-after" not in response.headers
        assert live.engine.usage.sessions_warm == 1
        assert api.restore(second, data).status_code == 200
        api.delete(second)
        api.fork(first)


def test_a_session_is_gone_after_its_time_to_live(
    own: SessionClient, live: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "causalrn.server.sessions.even_clocks._SECONDS", 0.0
    )  # clocks are trusted at once
    short, long = own.create(ttl_seconds=2), own.create()
    assert own.turn(short, "hello")["session"]["n_tokens"] == 13
    until = own.get(short)["expires_at"]
    live.wait_until(lambda: time.time() > until)
    assert error_type(own.http.get(f"/sessions/{short}"), 404) == "session_not_found"
    assert error_type(own.post(short, "hello"), 404) == "session_not_found"
    assert [one["id"] for one in own.http.get("/sessions").json()["sessions"]] == [long]
    assert live.engine.usage.sessions_warm == 1
    live.run(live.sessions.upkeep.sweep())
    assert live.engine.usage.pages_used == 0


def test_a_session_of_other_weights_is_409(model: FakeModel) -> None:
    settings = make_settings()
    other = FakeModel(fingerprint="ab" * 32, name="other")
    with serve(other, settings) as live, live.client() as client:
        id = SessionClient(client).create()
        SessionClient(client).turn(id, "hello")
    with serve(model, settings) as live, live.client() as client:
        api = SessionClient(client)
        session = api.get(id)
        assert (session["model"], session["fingerprint"]) == ("other", "ab" * 32)
        refused = api.post(id, "hello")
        assert error_type(refused, 409) == "session_of_other_weights"
        assert "abababababab (other), this server has 000000000000 (fake-copy)" in refused.text
        refused = client.get(f"/sessions/{id}/snapshot")
        assert error_type(refused, 409) == "session_of_other_weights"
        # It can be given another log, of these weights.
        good = api.create()
        api.turn(good, "world")
        assert api.restore(id, api.save(good)).status_code == 200
        assert api.get(id)["fingerprint"] == "0" * 64
        api.turn(id, "hello")


def test_sessions_outlive_the_server(model: FakeModel) -> None:
    settings = make_settings()
    with serve(model, settings) as live, live.client() as client:
        id = SessionClient(client).create()
        SessionClient(client).turn(id, "hello")
    with serve(FakeModel(), settings) as live, live.client() as client:
        api = SessionClient(client)
        assert (api.get(id)["state"], api.log(id)) == ("cold", copied("hello"))
        answer = api.turn(id, "world")
        assert (answer["text"], answer["usage"]["cached_tokens"]) == ("world", 0)


def test_a_fork_and_its_parent_go_on_apart(own: SessionClient, live: LiveServer) -> None:
    id = own.create(ttl_seconds=1000)
    own.turn(id, "x" * 20)
    response = own.http.post(f"/sessions/{id}/fork")
    child = response.json()
    assert response.headers["location"] == f"/sessions/{child['id']}"
    assert (child["n_tokens"], child["state"], child["ttl_seconds"]) == (43, "warm", 1000)
    assert (child["pages_own"], child["pages_shared"], child["pool_tokens"]) == (0, 3, 42)
    assert live.engine.usage.pages_used == 3
    n_batches = len(live.model.decoder.batches)
    answer = own.turn(child["id"], "y")
    assert (answer["text"], answer["usage"]["cached_tokens"]) == ("y", 42)
    assert sum(n for _, n in live.model.decoder.batches[n_batches:]) == 1 + 3 + 1
    assert own.turn(id, "z")["text"] == "z"
    assert own.log(child["id"]) == copied("x" * 20) + copied("y")
    assert own.log(id) == copied("x" * 20) + copied("z")
    own.delete(id)
    assert own.turn(child["id"], "again")["text"] == "again"
    other = own.fork(child["id"], ttl_seconds=5)
    assert own.get(other)["ttl_seconds"] == 5


def test_a_fork_of_a_session_that_is_cold_or_empty(own: SessionClient) -> None:
    id = own.create()
    child = own.fork(id)
    assert own.get(child)["n_tokens"] == 0
    assert own.turn(child, "hello")["text"] == "hello"
    assert own.log(id) == []


def test_metrics_count_warm_sessions(own: SessionClient) -> None:
    def figure(name: str) -> float:
        lines = own.http.get("/metrics").text.splitlines()
        (value,) = [line.split()[1] for line in lines if line.startswith(f"causalrn_{name}{{")]
        return float(value)

    ids = [own.create() for _ in range(2)]
    for id in ids:
        own.turn(id, "hello")
    assert (figure("num_sessions_warm"), figure("session_evictions_total")) == (2, 0)
    assert own.post(None, "x" * 500).status_code == 200  # 63 of 64 pages
    assert (figure("num_sessions_warm"), figure("session_evictions_total")) == (1, 1)
    assert [own.get(id)["state"] for id in ids] == ["cold", "warm"]
