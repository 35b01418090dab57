"""One request at a time in a session."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from causalrn.server.sessions.store.refusals import busy
from causalrn.server.sessions.store.sqlite import SqliteStore
from tests.server.conftest import Gate
from tests.server.live_server import LiveServer
from tests.server.session_client import SessionClient, copied, error_type


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
        live.wait_until(lambda: live.n_calls == 1)
        gate.open()
        assert looking.result(20)["busy"]
        *_, last, done = stream
    assert (last["session"]["n_tokens"], done) == (13, "[DONE]")
    assert own.log(id) == copied("hello")
    assert not own.get(id)["busy"]


def test_an_idle_session_is_forked_and_saved_by_many_at_once(
    own: SessionClient, pool: ThreadPoolExecutor
) -> None:
    id = own.create()
    own.turn(id, "hello")
    children = [pool.submit(own.fork, id) for _ in range(8)]
    saved = [pool.submit(own.save, id) for _ in range(8)]
    assert len({one.result(20) for one in children}) == 8
    assert len({one.result(20)[-32:] for one in saved}) == 1
    assert own.turn(id, "world")["text"] == "world"


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


def test_waiting_for_a_session_ends_at_the_deadline(
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


def test_a_client_that_leaves_while_it_waits_is_passed_over(
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


def test_a_session_that_another_server_has_is_waited_for(
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
