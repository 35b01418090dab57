import asyncio
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from model.state import RaggedBatch
from server.api.schemas.generate import GenerateChunk, GenerateResponse
from server.api.schemas.sessions import Session
from server.engine.pooled_sessions import PooledSessions
from server.sessions.store.refusals import busy
from server.sessions.store.sqlite import SqliteStore
from tests.server.conftest import PAGE, SLOT, Gate, make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer, events, serve
from tests.server.session_client import SessionClient, error_type
from tests.server.sessions.test_snapshot import with_digest

NOBODY = "ses-" + "0" * 32
EOS = 258


@pytest.fixture(scope="module")
def shared() -> Iterator[LiveServer]:
    """One server for the tests of this module that leave it as they find it."""
    with serve(FakeModel(recall=True), make_settings()) as live:
        yield live


@pytest.fixture
def api(shared: LiveServer) -> Iterator[SessionClient]:
    with shared.client() as client:
        yield SessionClient(client)


@pytest.fixture
def live(model: FakeModel) -> Iterator[LiveServer]:
    """A server of one's own, for tests that hold it up or break it."""
    with serve(model, make_settings()) as live:
        yield live


@pytest.fixture
def own(live: LiveServer) -> Iterator[SessionClient]:
    with live.client() as client:
        yield SessionClient(client)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def copied(text: str) -> list[int]:
    return [256, *text.encode(), 257, *text.encode(), EOS]


def hold_step(live: LiveServer, gate: Gate, number: int) -> None:
    """Close the gate before the n-th step from now."""
    steps = 0

    def count(batch: RaggedBatch) -> None:
        nonlocal steps
        steps += 1
        if steps == number:
            gate(batch)

    live.model.decoder.before_extend = count


# What a session is.


def test_a_new_session(api: SessionClient, shared: LiveServer) -> None:
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
    assert shared.engine.usage.pages_used == shared.engine.usage.sessions_warm == 0


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
def test_a_bad_body_is_refused(
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


def test_too_many_sessions_are_429(model: FakeModel) -> None:
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
            assert int(response.headers["retry-after"]) > 0
        assert live.engine.usage.sessions_warm == 1
        assert api.restore(second, data).status_code == 200
        api.delete(second)
        api.fork(first)


def test_a_session_is_gone_after_its_time(own: SessionClient, live: LiveServer) -> None:
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


# Turns.


@pytest.mark.parametrize("stream", [False, True])
def test_turns_go_on_from_each_other(api: SessionClient, stream: bool) -> None:
    id = api.create()
    log: list[int] = []
    for i, text in enumerate(["hello", "grüße, 世界", "x" * 40, "hello"]):
        cached = max(0, len(log) - 1)
        answer = api.turn(id, text, stream=stream)
        (GenerateChunk if stream else GenerateResponse).model_validate(answer)
        n_prompt = len(log) + len(text.encode()) + 2
        log += copied(text)
        assert answer["text"] == text
        assert answer["session"] == {"id": id, "n_tokens": len(log)}
        assert answer["usage"] == {
            "prompt_tokens": n_prompt,
            "completion_tokens": len(text.encode()),
            "total_tokens": n_prompt + len(text.encode()),
            "cached_tokens": cached,
        }, i
        assert api.log(id) == log
    session = api.get(id)
    assert (session["state"], session["pool_tokens"]) == ("warm", len(log) - 1)
    n_pages = -(-(len(log) - 1) // 16)
    assert session["pages_own"] + session["pages_shared"] == n_pages
    assert session["pool_bytes"] == n_pages * PAGE
    assert session["used_at"] > session["created_at"]
    assert session["expires_at"] == pytest.approx(session["used_at"] + session["ttl_seconds"])
    api.delete(id)
    assert error_type(api.http.get(f"/sessions/{id}"), 404) == "session_not_found"


def test_only_the_last_event_names_the_session(api: SessionClient) -> None:
    *chunks, last, done = events(api.post(api.create(), "hello there", stream=True))
    assert done == "[DONE]"
    assert all("session" not in chunk for chunk in chunks)
    assert last["session"]["n_tokens"] == 2 + 2 * 11 + 1


def test_answers_without_a_session_do_not_mention_one(api: SessionClient) -> None:
    assert "session" not in api.post(None, "hello").json()
    *_, last, _ = events(api.post(None, "hello", stream=True))
    assert "session" not in last


def test_a_warm_session_computes_new_tokens_only(own: SessionClient, live: LiveServer) -> None:
    id = own.create()
    batches = live.model.decoder.batches
    own.turn(id, "x" * 40)
    n_batches = len(batches)
    own.turn(id, "hello")
    new = batches[n_batches:]
    assert new[0] == (1, 1 + 7)  # EOS, and the prompt
    assert new[1:] == [(1, 1)] * 5
    assert own.get(id)["pool_tokens"] == len(own.log(id)) - 1


def test_what_a_session_read_is_found_by_others(own: SessionClient) -> None:
    id = own.create()
    own.turn(id, "x" * 50)
    assert own.post(None, "x" * 50).json()["usage"]["cached_tokens"] == 48
    own.turn(id, "y")
    other = own.create()
    assert own.turn(other, "x" * 50)["usage"]["cached_tokens"] == 48
    session = own.get(other)
    assert (session["pages_shared"], session["pages_own"]) == (3, 4)


def test_a_prompt_can_be_read_only(api: SessionClient) -> None:
    id = api.create()
    answer = api.turn(id, "hello", max_tokens=0)
    assert (answer["text"], answer["token_ids"], answer["finish_reason"]) == ("", [], "length")
    assert api.log(id) == [256, *b"hello", 257]
    assert api.turn(id, "", mode="raw")["text"] == "hello"
    assert api.log(id) == copied("hello")


@pytest.mark.parametrize("empty", ["", []])
def test_a_turn_can_be_gone_on_with(api: SessionClient, empty: str | list[int]) -> None:
    whole = api.create()
    api.turn(whole, "hello world")
    id = api.create()
    assert api.turn(id, "hello world", max_tokens=3)["finish_reason"] == "length"
    parts = [api.turn(id, empty, mode="raw", max_tokens=n)["text"] for n in (1, 4, 2)]
    last = api.turn(id, empty, mode="raw")
    assert (parts, last["text"]) == (["l", "o wo", "rl"], "d")
    assert last["finish_reason"] == "stop"
    assert api.log(id) == api.log(whole)


def test_raw_turns_may_hold_special_ids(api: SessionClient) -> None:
    id = api.create()
    assert api.turn(id, [256, 104, 105, 257], mode="raw")["text"] == "hi"
    assert api.log(id) == copied("hi")
    # Sixteen tokens unless it says, of which EOS would be none.
    other = api.create()
    answer = api.turn(other, [256, *[97] * 30, 257], mode="raw")
    assert (answer["text"], answer["finish_reason"]) == ("a" * 16, "length")


def test_recall_goes_on_with_what_was_read(api: SessionClient) -> None:
    id = api.create()
    api.turn(id, "the quick brown fox", max_tokens=0)
    api.turn(id, "something else")
    answer = api.turn(id, "the qu", mode="recall")
    assert (answer["text"], answer["finish_reason"]) == ("ick brown fox", "stop")
    assert api.log(id)[-21:] == [256, 257, *b"the qu", *b"ick brown fox", EOS][-21:]
    assert api.turn(id, "some", mode="recall", max_tokens=5)["text"] == "thing"


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


def test_a_stop_string_and_echo_and_log_probabilities(api: SessionClient) -> None:
    id = api.create()
    answer = api.turn(id, "one, two", stop=", ", logprobs=1)
    assert (answer["text"], answer["finish_reason"]) == ("one", "stop")
    assert len(answer["logprobs"]) == 5
    assert api.log(id) == [256, *b"one, two", 257, *b"one, "]
    answer = api.turn(id, "abc", echo=True)
    assert answer["text"] == "abcabc"
    assert api.log(id)[-9:] == copied("abc")


def test_eos_that_is_ignored_is_in_the_log(api: SessionClient) -> None:
    id = api.create()
    assert api.turn(id, "a", max_tokens=3, ignore_eos=True)["token_ids"] == [97, EOS, EOS]
    assert api.log(id) == [256, 97, 257, 97, EOS, EOS]


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
def test_what_makes_no_sense_is_refused(
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
        assert "the session has 23 already, it takes at most 14 more" in refused.text
        answer = api.turn(id, "y" * 14)
        assert (answer["text"], answer["finish_reason"]) == ("y", "length")
        assert len(api.log(id)) == 40
        assert error_type(api.post(id, "z"), 413) == "session_full"
        assert error_type(api.post(id, "", mode="raw"), 413) == "session_full"
        assert error_type(api.post(api.create(), "z" * 40), 422) == "invalid_request"
        assert len(api.log(id)) == 40


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


# One request at a time.


def test_a_second_request_is_409_and_changes_nothing(
    own: SessionClient, live: LiveServer, gate: Gate, pool: ThreadPoolExecutor
) -> None:
    id, other = own.create(), own.create()
    own.turn(other, "world")
    data = own.save(other)
    live.model.decoder.before_extend = gate
    with own.stream(id, "hello") as stream:
        assert gate.reached.wait(10)
        assert error_type(own.post(id, "world"), 409) == "session_busy"
        streamed = own.post(id, "world", stream=True)
        assert error_type(streamed, 409) == "session_busy"
        assert streamed.headers["retry-after"] == "1"
        for response in (
            own.http.post(f"/sessions/{id}/fork"),
            own.http.get(f"/sessions/{id}/snapshot"),
            own.restore(id, data),
        ):
            assert error_type(response, 409) == "session_busy"
        looking = pool.submit(own.get, id)  # answered between two steps
        live.wait_until(lambda: bool(live.engine._mail.calls))
        gate.open()
        assert looking.result(20)["busy"]
        *_, last, done = stream
    assert (last["session"]["n_tokens"], done) == (13, "[DONE]")
    assert own.log(id) == copied("hello")
    assert not own.get(id)["busy"]


def test_a_busy_session_says_so(own: SessionClient, live: LiveServer) -> None:
    id = own.create()
    seen: list[bool] = []
    live.model.decoder.before_extend = lambda _: time.sleep(0.1)  # six seconds to look in
    with own.stream(id, "x" * 60) as stream:
        next(stream)
        seen.append(own.get(id)["busy"])
        seen.append(own.http.get("/sessions").json()["sessions"][0]["busy"])
        live.model.decoder.before_extend = lambda _: None
        list(stream)
    seen.append(own.get(id)["busy"])
    assert seen == [True, True, False]


def test_requests_that_wait_take_turns_in_order(
    own: SessionClient, live: LiveServer, gate: Gate, pool: ThreadPoolExecutor
) -> None:
    id = own.create()
    live.model.decoder.before_extend = gate
    first = pool.submit(own.turn, id, "first")
    assert gate.reached.wait(10)
    rest: list[Future[Any]] = []
    for i in range(4):
        stream = i % 2 == 1
        rest.append(pool.submit(own.turn, id, f"n{i}", wait_for_session=True, stream=stream))
        live.wait_until(lambda: live.sessions.locks.n_users(id) == i + 2)  # noqa: B023
    assert error_type(own.post(id, "impatient"), 409) == "session_busy"
    gate.open()
    answers = [future.result(20) for future in (first, *rest)]
    assert [one["text"] for one in answers] == ["first", "n0", "n1", "n2", "n3"]
    log = [id for text in ("first", "n0", "n1", "n2", "n3") for id in copied(text)]
    assert own.log(id) == log


def test_whoever_waits_too_long_is_told(
    own: SessionClient, live: LiveServer, gate: Gate, pool: ThreadPoolExecutor
) -> None:
    id = own.create()
    live.model.decoder.before_extend = gate
    first = pool.submit(own.turn, id, "first")
    assert gate.reached.wait(10)
    began = time.monotonic()
    refused = own.post(id, "second", wait_for_session=True, timeout=0.2)
    assert error_type(refused, 504) == "deadline_exceeded"
    assert time.monotonic() - began >= 0.2
    gate.open()
    assert first.result(20)["text"] == "first"
    assert own.turn(id, "third", wait_for_session=True, timeout=20)["text"] == "third"
    assert own.log(id) == copied("first") + copied("third")


def test_whoever_leaves_while_waiting_is_passed_over(
    own: SessionClient, live: LiveServer, gate: Gate, pool: ThreadPoolExecutor
) -> None:
    id = own.create()
    live.model.decoder.before_extend = gate
    first = pool.submit(own.turn, id, "first")
    assert gate.reached.wait(10)
    body = {"session_id": id, "prompt": "left", "wait_for_session": True}
    with live.connect() as connection:
        live.send_generate(connection, body)
        live.wait_until(lambda: live.sessions.locks.n_users(id) == 2)
        last = pool.submit(own.turn, id, "last", wait_for_session=True)
        live.wait_until(lambda: live.sessions.locks.n_users(id) == 3)
    live.wait_until(lambda: live.sessions.locks.n_users(id) == 2)
    gate.open()
    assert [one.result(20)["text"] for one in (first, last)] == ["first", "last"]
    assert own.log(id) == copied("first") + copied("last")


def test_a_session_that_another_server_has_is_waited_for_as_long_as_it_was_said(
    own: SessionClient, live: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = own.create()
    begin, calls = SqliteStore.begin, 0

    async def begin_later(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls <= 20:
            raise busy(id)
        await begin(*arguments)

    monkeypatch.setattr(SqliteStore, "begin", begin_later)
    assert error_type(own.post(id, "hello"), 409) == "session_busy"
    # A second of waiting leaves enough for the turn itself, on a busy machine too.
    live.model.decoder.before_extend = lambda _: time.sleep(0.02)
    assert own.turn(id, "hello", wait_for_session=True, timeout=15)["text"] == "hello"
    assert calls == 21
    assert own.log(id) == copied("hello")


# Forks.


def test_a_fork_goes_on_by_itself(own: SessionClient, live: LiveServer) -> None:
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


# Whoever leaves, and whatever breaks.


def test_a_session_that_is_deleted_in_mid_turn(
    own: SessionClient, live: LiveServer, gate: Gate, pool: ThreadPoolExecutor
) -> None:
    id = own.create()
    own.turn(id, "before")
    hold_step(live, gate, 6)
    with own.stream(id, "hello there") as stream:
        got = next(stream)["text"]
        assert gate.reached.wait(10)
        deleting = pool.submit(own.delete, id)
        *more, last = stream  # ends though the step does not
        assert last["error"]["type"] == "session_not_found"
        assert "hello there".startswith(got + "".join(chunk["text"] for chunk in more))
        gate.open()
        deleting.result(20)
    assert live.engine.usage.pages_used == 0
    assert error_type(own.http.get(f"/sessions/{id}"), 404) == "session_not_found"
    assert error_type(own.http.delete(f"/sessions/{id}"), 404) == "session_not_found"


def test_a_turn_that_waits_for_a_session_that_is_deleted(
    own: SessionClient, live: LiveServer, gate: Gate, pool: ThreadPoolExecutor
) -> None:
    id = own.create()
    live.model.decoder.before_extend = gate
    first = pool.submit(own.post, id, "first")
    assert gate.reached.wait(10)
    second = pool.submit(own.post, id, "second", wait_for_session=True)
    live.wait_until(lambda: live.sessions.locks.n_users(id) == 2)
    deleting = pool.submit(own.delete, id)
    assert error_type(first.result(20), 404) == "session_not_found"
    assert error_type(second.result(20), 404) == "session_not_found"
    gate.open()
    deleting.result(20)


@pytest.mark.parametrize("n_read", [1, 3])
def test_a_client_that_leaves_in_mid_turn(
    own: SessionClient, live: LiveServer, n_read: int
) -> None:
    id = own.create()
    own.turn(id, "before")
    live.model.decoder.before_extend = lambda _: time.sleep(0.03)  # five seconds to leave in
    text = "a text that is longer than what is read of it, by far" * 3
    with own.stream(id, text) as stream:
        sent = "".join(next(stream)["text"] for _ in range(n_read))
    answer = own.turn(id, "after", wait_for_session=True)
    assert answer["text"] == "after"
    log = own.log(id)
    begin = [*copied("before"), 256, *text.encode(), 257]
    assert log[: len(begin)] == begin
    assert log[-13:] == copied("after")
    kept = bytes(log[len(begin) : -13])
    assert text.encode().startswith(kept)
    assert kept.startswith(sent.encode())
    assert len(kept) < len(text)


def test_a_session_is_free_as_soon_as_its_client_left(
    own: SessionClient, live: LiveServer, gate: Gate
) -> None:
    id = own.create()
    hold_step(live, gate, 4)
    with own.stream(id, "hello there") as stream:
        next(stream)
        assert gate.reached.wait(10)
    live.wait_until(lambda: id not in live.sessions.locks)  # though a step is stuck
    gate.open()
    assert own.turn(id, "after")["text"] == "after"


def test_a_client_that_leaves_while_its_turn_begins(
    own: SessionClient, live: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = own.create()
    begin, called, may_go_on = SqliteStore.begin, threading.Event(), threading.Event()

    async def begin_slowly(*arguments: Any) -> None:
        called.set()
        await asyncio.to_thread(may_go_on.wait, 20)
        await begin(*arguments)

    monkeypatch.setattr(SqliteStore, "begin", begin_slowly)
    with live.connect() as connection:
        live.send_generate(connection, {"session_id": id, "prompt": "left"})
        assert called.wait(10)
    monkeypatch.undo()
    live.wait_until(lambda: live.n_tasks == 0)
    assert error_type(own.post(id, "world"), 409) == "session_busy"
    may_go_on.set()
    assert own.turn(id, "world", wait_for_session=True)["text"] == "world"
    assert own.log(id) == [256, *b"left", 257, *copied("world")]


def test_a_turn_whose_beginning_takes_too_long(
    own: SessionClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = own.create()
    begin, may_go_on = SqliteStore.begin, threading.Event()

    async def begin_slowly(*arguments: Any) -> None:
        await asyncio.to_thread(may_go_on.wait, 20)
        await begin(*arguments)

    monkeypatch.setattr(SqliteStore, "begin", begin_slowly)
    assert error_type(own.post(id, "late", timeout=0.1), 504) == "deadline_exceeded"
    monkeypatch.undo()
    may_go_on.set()
    assert own.turn(id, "world", wait_for_session=True)["text"] == "world"


@pytest.mark.parametrize("stream", [False, True])
def test_a_turn_that_takes_too_long(
    own: SessionClient, live: LiveServer, gate: Gate, stream: bool
) -> None:
    id = own.create()
    hold_step(live, gate, 4)
    response = own.post(id, "hello there", timeout=1, stream=stream)
    if stream:
        assert events(response)[-1]["error"]["type"] == "deadline_exceeded"
    else:
        assert error_type(response, 504) == "deadline_exceeded"
    gate.open()
    assert own.turn(id, "after")["text"] == "after"
    assert own.log(id)[:13] == [256, *b"hello there", 257]


@pytest.mark.parametrize("stream", [False, True])
def test_a_step_that_fails_leaves_the_session_usable(
    own: SessionClient, live: LiveServer, stream: bool
) -> None:
    id = own.create()
    own.turn(id, "before")
    steps = 0

    def fail_the_third(_: RaggedBatch) -> None:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise RuntimeError("injected")

    live.model.decoder.before_extend = fail_the_third
    response = own.post(id, "hello", stream=stream)
    if stream:
        *chunks, error = events(response)
        assert error["error"]["type"] == "engine_error"
        assert "".join(chunk["text"] for chunk in chunks) == "he"
    else:
        assert error_type(response, 500) == "engine_error"
    assert own.get(id)["state"] == "cold"  # its memory may be wrong
    assert own.log(id) == [*copied("before"), 256, *b"hello", 257, *b"he"]
    assert own.turn(id, "", mode="raw")["text"] == "llo"
    assert own.turn(id, "after")["text"] == "after"


def test_an_engine_that_is_stuck_or_dead_leaves_nobody_hanging(
    model: FakeModel, gate: Gate
) -> None:
    with serve(model, make_settings(stall_seconds=1.0)) as live, live.client() as client:
        api = SessionClient(client)
        id = api.create()
        api.turn(id, "hello")
        model.decoder.before_extend = gate
        assert error_type(api.post(id, "hello"), 500) == "engine_error"
        assert error_type(client.get(f"/sessions/{id}"), 503) == "not_ready"
        gate.open()
        live.wait_until_idle()
        assert api.turn(id, "world")["text"] == "world"


def test_a_call_that_the_thread_never_gets_to_is_answered(
    model: FakeModel, gate: Gate, pool: ThreadPoolExecutor
) -> None:
    with serve(model, make_settings(), ends_idle=False) as live, live.client() as client:
        own = SessionClient(client)
        id = own.create()
        own.turn(id, "hello")

        def die(batch: RaggedBatch) -> None:
            gate(batch)
            raise SystemExit

        model.decoder.before_extend = die
        turn = pool.submit(own.post, id, "hello")
        assert gate.reached.wait(10)
        looking = pool.submit(own.http.get, f"/sessions/{id}")
        live.wait_until(lambda: len(live.engine._mail.calls) == 1)
        gate.open()
        assert error_type(looking.result(20), 503) == "not_ready"
        assert "is not running" in looking.result().text
        assert error_type(turn.result(20), 500) == "engine_error"
        assert error_type(own.http.get(f"/sessions/{id}"), 503) == "not_ready"
        assert error_type(own.post(id, "hello"), 503) == "not_ready"


def test_a_storm_over_http(model: FakeModel, pool: ThreadPoolExecutor) -> None:
    """Turns, forks, deletions and clients that leave, on a pool that is far too small."""
    settings = make_settings(pool_bytes=24 * PAGE + 8 * SLOT)
    failures: list[Any] = []
    left: list[bool] = []  # whether in mid-stream, of those who left
    forks: list[str] = []
    with serve(model, settings) as live, live.client() as client:
        api = SessionClient(client)
        ids = [api.create() for _ in range(6)]
        guard = threading.Lock()

        def work(number: int) -> None:
            for i in range(12):
                with guard:
                    id = ids[(number * 5 + i) % len(ids)]
                text = f"{number} says {i}"
                kind = (number + 3 * i) % 7
                if kind == 5:
                    body = {"session_id": id, "prompt": text * 4, "wait_for_session": True}
                    with client.stream(
                        "POST", "/generate", json=body | {"stream": True}
                    ) as response:
                        begin = next(response.iter_raw())
                    if response.status_code == 200 and b'"text":' in begin:
                        left.append(b"[DONE]" not in begin)
                    elif response.status_code != 413:
                        failures.append(begin)
                    continue
                if kind == 6:
                    deadline = time.monotonic() + 20
                    while (response := client.post(f"/sessions/{id}/fork")).status_code == 409:
                        # Somebody is in it; forks do not wait.
                        assert time.monotonic() < deadline, response.text
                        time.sleep(0.001)
                    if response.status_code != 201:
                        failures.append(response.text)
                        continue
                    child = response.json()["id"]
                    answer = api.post(child, text)
                    if answer.status_code == 200 and answer.json()["text"] == text:
                        forks.append(child)
                    elif answer.status_code != 413:
                        failures.append(answer.text)
                    api.delete(child)
                    continue
                response = api.post(id, text, wait_for_session=True, max_tokens=20)
                if response.status_code == 413:  # it is full
                    with guard:
                        ids[ids.index(id) if id in ids else 0] = api.create()
                elif response.status_code != 200 or response.json()["text"] != text[:20]:
                    failures.append(response.text)

        for future in [pool.submit(work, number) for number in range(6)]:
            future.result(60)
        assert failures == []
        assert any(left)
        assert forks
        live.wait_until_idle()
        for session in client.get("/sessions").json()["sessions"]:
            live.wait_until(lambda: not api.get(session["id"])["busy"])  # noqa: B023
            api.delete(session["id"])
        assert live.engine.usage.pages_used == 0


# Snapshots.


def test_a_snapshot_goes_to_another_server(own: SessionClient) -> None:
    id = own.create()
    own.turn(id, "x" * 40)
    response = own.http.get(f"/sessions/{id}/snapshot")
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["cache-control"] == "no-store"
    disposition = response.headers["content-disposition"]
    assert disposition == f'attachment; filename="{id}.safetensors"'
    assert int(response.headers["content-length"]) == len(response.content)
    with serve(FakeModel(), make_settings()) as live, live.client() as client:
        other = SessionClient(client)
        restored = other.restore(id, response.content)
        assert restored.status_code == 201
        assert restored.headers["location"] == f"/sessions/{id}"
        session = restored.json()
        assert (session["state"], session["n_tokens"], session["pool_tokens"]) == ("warm", 83, 82)
        answer = other.turn(id, "hello")
        assert (answer["text"], answer["usage"]["cached_tokens"]) == ("hello", 82)
        assert sum(n for _, n in live.model.decoder.batches[2:]) == 1 + 7 + 5  # two to warm up
        assert other.log(id) == copied("x" * 40) + copied("hello")
        # Restored memory is nobody else's.
        assert other.post(None, "x" * 40).json()["usage"]["cached_tokens"] == 0
        # Back to what it was.
        before = other.get(id)["created_at"]
        again = other.restore(id, response.content)
        assert (again.status_code, again.json()["n_tokens"]) == (200, 83)
        assert again.json()["created_at"] == pytest.approx(before)
        assert other.turn(id, "world")["text"] == "world"
        assert other.log(id) == copied("x" * 40) + copied("world")


def test_a_cold_session_is_computed_to_be_saved(own: SessionClient, live: LiveServer) -> None:
    id = own.create()
    own.turn(id, "x" * 20)
    child = own.fork(id)
    own.delete(id)
    live.run(live.engine.call(PooledSessions.drop, child))
    data = own.save(child)
    assert own.get(child)["state"] == "warm"
    assert own.log(child) == copied("x" * 20)
    assert own.restore(NOBODY, data).json()["pool_tokens"] == 43
    assert own.turn(NOBODY, "hello")["usage"]["cached_tokens"] == 43


def test_a_restored_session_can_be_cold(model: FakeModel, gate: Gate) -> None:
    with serve(FakeModel(), make_settings()) as live, live.client() as client:
        api = SessionClient(client)
        id = api.create()
        api.turn(id, "x" * 100)
        data = api.save(id)
    settings = make_settings(pool_bytes=16 * PAGE + 8 * SLOT)
    with serve(model, settings) as live, live.client() as client:
        api = SessionClient(client)
        hold_step(live, gate, 4)
        with api.stream(api.create(), "y" * 60) as stream:
            assert gate.reached.wait(10)
            with ThreadPoolExecutor(1) as pool:
                restoring = pool.submit(api.restore, id, data)
                live.wait_until(lambda: len(live.engine._mail.calls) == 1)
                gate.open()
                assert restoring.result(20).json()["state"] == "cold"
            list(stream)
        assert api.turn(id, "hello")["text"] == "hello"


def test_a_snapshot_of_more_tokens_than_a_session_may_have(own: SessionClient) -> None:
    id = own.create()
    own.turn(id, "x" * 40)
    data = own.save(id)
    with serve(FakeModel(), make_settings(max_session_tokens=82)) as live, live.client() as client:
        response = SessionClient(client).restore(id, data)
        assert (response.status_code, response.json()["error"]["type"]) == (413, "session_full")
        assert SessionClient(client).http.get(f"/sessions/{id}").status_code == 404


def test_a_bad_snapshot_changes_nothing(own: SessionClient, live: LiveServer) -> None:
    id = own.create()
    own.turn(id, "hello")
    data = own.save(id)
    before = own.get(id)
    for bad, reason in (
        (b"", "not a safetensors file"),
        (b"hello", "not a safetensors file"),
        (data[:-1], "a truncated one"),
        (data[: len(data) // 2], "a truncated one"),
        (data + b"\0", "not a safetensors file"),
        (data[:-33] + bytes([data[-33] ^ 1]) + data[-32:], "its digest does not fit"),
        (with_digest(data.replace(b'"version":"2"', b'"version":"3"')), "has version 3"),
        (with_digest(data.replace(b"0" * 64, b"1" * 64)), "is of weights 111111111111, "),
    ):
        for target in (id, NOBODY):
            refused = own.restore(target, bad)
            assert error_type(refused, 422) == "invalid_snapshot"
            assert reason in refused.json()["error"]["message"]
    assert error_type(own.http.get(f"/sessions/{NOBODY}"), 404) == "session_not_found"
    after = own.get(id)
    del before["age_seconds"], after["age_seconds"]
    assert after == before
    assert live.engine.usage.pages_used == 1
    assert own.turn(id, "world")["usage"]["cached_tokens"] == 12


@pytest.mark.parametrize("id", ["ses-1", "nobody", NOBODY + "0", "ses-" + "G" * 32, NOBODY + "%0A"])
def test_a_snapshot_needs_an_id_that_could_be_one(api: SessionClient, id: str) -> None:
    refused = api.restore(id, b"")
    assert error_type(refused, 422) == "invalid_request"
    assert refused.json()["error"]["param"] == "session_id"


@pytest.mark.parametrize("media_type", ["application/json", "", "text/plain"])
def test_a_snapshot_of_another_media_type_is_refused(api: SessionClient, media_type: str) -> None:
    headers = {"content-type": media_type} if media_type else {}
    refused = api.http.put(f"/sessions/{NOBODY}/snapshot", content=b"x", headers=headers)
    assert error_type(refused, 415) == "unsupported_media_type"


@pytest.mark.parametrize("declared", [False, True])
def test_a_snapshot_that_is_too_large_is_not_read_whole(
    live: LiveServer, own: SessionClient, declared: bool
) -> None:
    limit = own.http.get("/info").json()["limits"]["max_snapshot_bytes"]
    length = "content-length: 65536000" if declared else "transfer-encoding: chunked"
    with live.connect() as connection:
        connection.sendall(
            f"PUT /sessions/{NOBODY}/snapshot HTTP/1.1\r\nhost: test\r\n"
            f"content-type: application/octet-stream\r\n{length}\r\n\r\n".encode()
        )
        if not declared:  # and never end
            for _ in range(limit // 4096 + 2):
                connection.sendall(b"1000\r\n" + bytes(4096) + b"\r\n")
        answer = connection.recv(10_000)
    assert b" 413 " in answer.splitlines()[0]
    assert b"body_too_large" in answer
    assert error_type(own.http.get(f"/sessions/{NOBODY}"), 404) == "session_not_found"


def test_one_who_sends_a_snapshot_slowly_holds_nobody_up(
    live: LiveServer, own: SessionClient
) -> None:
    id = own.create()
    own.turn(id, "hello")
    data = own.save(id)
    head = (
        f"PUT /sessions/{NOBODY}/snapshot HTTP/1.1\r\nhost: test\r\n"
        f"content-type: application/octet-stream\r\ncontent-length: {len(data)}\r\n\r\n"
    ).encode()
    with ExitStack() as stack:
        slow = [stack.enter_context(live.connect()) for _ in range(8)]
        for connection in slow:
            connection.sendall(head + data[:-1])
        live.wait_until(lambda: live.n_tasks == 8)
        assert own.restore(id, own.save(id)).status_code == 200
        assert own.turn(id, "world")["text"] == "world"
        for connection in slow[1:]:  # who leave
            connection.close()
        live.wait_until(lambda: live.n_tasks == 1)
        assert error_type(own.http.get(f"/sessions/{NOBODY}"), 404) == "session_not_found"
        slow[0].sendall(data[-1:])
        assert slow[0].recv(12) == b"HTTP/1.1 201"
    assert own.log(NOBODY) == copied("hello")


# What else shows.


def test_metrics_count_warm_sessions(own: SessionClient) -> None:
    def figure(name: str) -> float:
        lines = own.http.get("/metrics").text.splitlines()
        (value,) = [line.split()[1] for line in lines if line.startswith(f"causalrn:{name}{{")]
        return float(value)

    ids = [own.create() for _ in range(2)]
    for id in ids:
        own.turn(id, "hello")
    assert (figure("num_sessions_warm"), figure("session_evictions_total")) == (2, 0)
    assert own.post(None, "x" * 500).status_code == 200  # 63 of 64 pages
    assert (figure("num_sessions_warm"), figure("session_evictions_total")) == (1, 1)
    assert [own.get(id)["state"] for id in ids] == ["cold", "warm"]
