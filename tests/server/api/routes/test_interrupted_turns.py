"""Turns whose client leaves, whose session is deleted, or whose step fails."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from causalrn.model.state import RaggedBatch
from tests.server.api.conftest import HeldBegin
from tests.server.conftest import Gate, make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer, events, serve
from tests.server.session_client import SessionClient, copied, error_type
from tests.server.steps import AtStep, fail


def test_deleting_a_session_ends_its_turn(
    own: SessionClient, live: LiveServer, gate: Gate, pool: ThreadPoolExecutor
) -> None:
    id = own.create()
    own.turn(id, "before")
    live.model.decoder.before_extend = AtStep(6, gate)
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


def test_deleting_a_session_refuses_the_turns_that_wait_for_it(
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
def test_what_a_client_got_before_it_left_is_kept(
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
    live.model.decoder.before_extend = AtStep(4, gate)
    with own.stream(id, "hello there") as stream:
        next(stream)
        assert gate.reached.wait(10)
    live.wait_until(lambda: id not in live.sessions.locks)  # though a step is stuck
    gate.open()
    assert own.turn(id, "after")["text"] == "after"


def test_a_prompt_is_kept_though_its_client_left_as_the_turn_began(
    own: SessionClient, live: LiveServer, held_begin: HeldBegin
) -> None:
    id = own.create()
    with live.connect() as connection:
        live.send_generate(connection, {"session_id": id, "prompt": "left"})
        assert held_begin.reached.wait(10)
    live.wait_until(lambda: live.n_tasks == 0)
    assert error_type(own.post(id, "world"), 409) == "session_busy"
    held_begin.open()
    assert own.turn(id, "world", wait_for_session=True)["text"] == "world"
    assert own.log(id) == [256, *b"left", 257, *copied("world")]


def test_a_turn_that_cannot_begin_in_time_is_504(own: SessionClient, held_begin: HeldBegin) -> None:
    id = own.create()
    assert error_type(own.post(id, "late", timeout=0.1), 504) == "deadline_exceeded"
    held_begin.open()
    assert own.turn(id, "world", wait_for_session=True)["text"] == "world"


@pytest.mark.parametrize("stream", [False, True])
def test_a_turn_ends_at_its_deadline(
    own: SessionClient, live: LiveServer, gate: Gate, stream: bool
) -> None:
    id = own.create()
    live.model.decoder.before_extend = AtStep(4, gate)
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
    live.model.decoder.before_extend = AtStep(3, fail)
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


def test_turns_of_a_stuck_engine_are_answered_with_errors(model: FakeModel, gate: Gate) -> None:
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


def test_a_call_that_a_dying_engine_never_gets_to_is_answered(
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
        live.wait_until(lambda: live.n_calls == 1)
        gate.open()
        assert error_type(looking.result(20), 503) == "not_ready"
        assert "is not running" in looking.result().text
        assert error_type(turn.result(20), 500) == "engine_error"
        assert error_type(own.http.get(f"/sessions/{id}"), 503) == "not_ready"
        assert error_type(own.post(id, "hello"), 503) == "not_ready"
