"""Several models on one server, over HTTP: requests, sessions, loading and unloading."""

import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from causalrn.server.settings import Settings
from tests.server.admin_client import HEADERS, AdminClient
from tests.server.api.conftest import HeldBegin
from tests.server.conftest import Gate
from tests.server.engine.running import engine_threads
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer, events, serve
from tests.server.session_client import SessionClient, copied, error_type
from tests.server.shelf import Shelf, fingerprint


class Client(SessionClient, AdminClient):
    """Somebody who may do everything."""


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "models", "a", "b", "b-twin", "c")


@contextmanager
def serving(shelf: Shelf, settings: Settings) -> Iterator[tuple[LiveServer, Client]]:
    with serve(FakeModel(), settings, load=shelf) as live, live.client(headers=HEADERS) as client:
        yield live, Client(client)
        live.wait_until_idle()
        assert not any(model.decoder.misuses for model in shelf.models.values())


@pytest.fixture
def client(shelf: Shelf) -> Iterator[Client]:
    """Of a server of `a`, the default model, and `b`."""
    with serving(shelf, shelf.settings("a", "b")) as (_, client):
        yield client


def generate(client: Client, model: str | None, *, stream: bool = False) -> httpx.Response:
    body = {"prompt": "hello", "model": model, "stream": stream}
    return client.http.post("/generate", json=body)


# Models.


def test_a_request_chooses_its_model(client: Client) -> None:
    for chosen, name in ((None, "a"), ("a", "a"), ("b", "b")):
        answer = generate(client, chosen).json()
        assert (answer["model"], answer["text"]) == (name, "hello")
        *chunks, _ = events(generate(client, chosen, stream=True))
        assert {chunk["model"] for chunk in chunks} == {name}
    for name in ("c", "", "A", "nobody", "../a", "x" * 1000):
        refused = generate(client, name)
        assert error_type(refused, 404) == "model_not_found"
        assert refused.json()["error"]["param"] == "model"
        assert "this server has a, b" in refused.text


def test_info_describes_the_model_that_is_named(client: Client) -> None:
    for path, name in (("/info", "a"), ("/info?model=a", "a"), ("/info?model=b", "b")):
        info = client.http.get(path).json()
        assert (info["model"], info["fingerprint"]) == (name, fingerprint(name))
        assert info["models"] == ["a", "b"]
    assert error_type(client.http.get("/info?model=c"), 404) == "model_not_found"
    assert error_type(client.http.get("/info?name=a"), 422) == "invalid_request"


def test_models_are_loaded_and_unloaded(client: Client) -> None:
    assert client.models() == {
        name: {
            "name": name,
            "status": "serving" if name in "ab" else "available",
            "is_default": name == "a",
            "fingerprint": fingerprint(name) if name in "ab" else None,
            "error": None,
        }
        for name in ("a", "b", "b-twin", "c")
    }
    made = client.load("c")
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    assert made.json() == client.models()["c"]
    assert made.json()["status"] == "serving"
    assert generate(client, "c").json()["model"] == "c"
    again = client.load("c")
    assert (again.status_code, again.json()) == (200, made.json())
    gone = client.unload("c")
    assert (gone.status_code, gone.content) == (204, b"")
    assert error_type(generate(client, "c"), 404) == "model_not_found"
    assert error_type(client.unload("c"), 404) == "model_not_found"
    assert client.statuses()["c"] == "available"
    assert client.http.get("/info").json()["models"] == ["a", "b"]


def test_what_cannot_be_done_is_told(client: Client, shelf: Shelf) -> None:
    assert error_type(client.unload("a"), 409) == "default_model"
    for name in ("nobody", "%2e%2e", "a%00", "%ff", "a b", "-a"):
        for answer in (client.load(name), client.unload(name)):
            assert error_type(answer, 404) == "model_not_found", name
    for path in ("..", "..%2fa"):  # more than a name, for which there is no route
        for answer in (client.load(path), client.unload(path)):
            assert error_type(answer, 404) == "not_found", path
    for answer in (client.load("x" * 256), client.unload("x" * 256)):
        assert error_type(answer, 422) == "invalid_request"
        assert answer.json()["error"]["param"] == "name"

    def fail(_: FakeModel) -> None:
        raise ValueError("injected")

    shelf.before_load = fail
    assert error_type(client.load("c"), 422) == "model_load_failed"
    assert client.models()["c"] | {"error": ""} == {
        "name": "c", "status": "failed", "is_default": False, "fingerprint": None, "error": ""
    }  # fmt: skip
    assert client.models()["c"]["error"] == "ValueError: injected"
    assert generate(client, "b").json()["text"] == "hello"
    assert client.http.get("/health/ready").status_code == 200


def test_a_stream_ends_well_while_its_model_is_unloaded(shelf: Shelf, gate: Gate) -> None:
    with (
        serving(shelf, shelf.settings("a", "b", drain_seconds=20)) as (live, client),
        ThreadPoolExecutor(2) as pool,
    ):
        shelf.models["b"].decoder.before_extend = gate
        streaming = pool.submit(generate, client, "b", stream=True)
        assert gate.reached.wait(10)
        unloading = pool.submit(client.unload, "b")
        live.wait_until(lambda: client.statuses()["b"] == "unloading")
        assert error_type(generate(client, "b"), 404) == "model_not_found"
        assert client.http.get("/health/ready").status_code == 200
        gate.open()
        *chunks, done = events(streaming.result(20))
        assert "".join(chunk["text"] for chunk in chunks) == "hello"
        assert done == "[DONE]"
        assert unloading.result(20).status_code == 204


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_not_finished_when_its_model_is_gone(
    shelf: Shelf, gate: Gate, stream: bool
) -> None:
    with (
        serving(shelf, shelf.settings("a", "b", drain_seconds=0.05)) as (_, client),
        ThreadPoolExecutor(2) as pool,
    ):
        id = client.create(model="b")
        shelf.models["b"].decoder.before_extend = gate
        turn = pool.submit(client.post, id, "hello", stream=stream)
        assert gate.reached.wait(10)
        unloading = pool.submit(client.unload, "b")
        answer = turn.result(20)
        error = events(answer)[-1]["error"] if stream else answer.json()["error"]
        assert error["type"] == "model_unloaded"
        assert error["message"] == "the model b was unloaded before the request was finished"
        assert answer.status_code == (200 if stream else 503)
        gate.open()
        assert unloading.result(20).status_code == 204
        # The prompt was acknowledged, and the session is free.
        assert client.log(id) == [256, *b"hello", 257]
        assert not client.get(id)["busy"]
        assert client.load("b").status_code == 201
        assert client.turn(id, "", mode="raw")["text"] == "hello"


# Sessions.


def test_a_session_stays_with_its_model(client: Client) -> None:
    ids = {None: client.create(), "a": client.create(model="a"), "b": client.create(model="b")}
    for chosen, id in ids.items():
        name = chosen or "a"
        assert (client.get(id)["model"], client.get(id)["fingerprint"]) == (name, fingerprint(name))
        for model in ({}, {"model": name}, {"model": None}):
            answer = client.turn(id, "hello", **model)
            assert (answer["model"], answer["text"]) == (name, "hello")
            assert client.turn(id, "world", stream=True, **model)["model"] == name
        before = client.log(id)
        for wrong in ("b" if name == "a" else "a", "c", "nobody"):
            refused = client.post(id, "hello", model=wrong)
            assert error_type(refused, 409) == "session_of_other_weights"
            assert refused.json()["error"]["param"] == "model"
        assert client.log(id) == before
        assert client.get(id)["state"] == "warm"
    listed = client.http.get("/sessions").json()["sessions"]
    assert [one["id"] for one in listed] == list(ids.values())
    assert [one["model"] for one in listed] == ["a", "a", "b"]
    assert all(one["pool_bytes"] > 0 for one in listed)
    refused = client.http.post("/sessions", json={"model": "c"})
    assert error_type(refused, 404) == "model_not_found"
    for id in ids.values():
        client.delete(id)
    assert client.http.get("/health/ready").json()["pages_used"] == 0


def test_a_fork_belongs_to_its_parents_model(client: Client) -> None:
    parent = client.create(model="b")
    client.turn(parent, "x" * 40)
    child = client.fork(parent)
    assert (client.get(child)["model"], client.get(child)["pages_shared"] > 0) == ("b", True)
    answer = client.turn(child, "hello")
    assert (answer["model"], answer["usage"]["cached_tokens"]) == ("b", 82)
    refused = client.http.post(f"/sessions/{parent}/fork", json={"model": "a"})
    assert error_type(refused, 422) == "invalid_request"
    client.unload("b")
    cold = client.fork(child)
    assert (client.get(cold)["state"], client.get(cold)["model"]) == ("cold", "b")
    assert client.log(cold) == client.log(child)


def test_a_snapshot_finds_its_model(client: Client) -> None:
    id, other = client.create(model="b"), client.create()
    client.turn(id, "x" * 40)
    client.turn(other, "x" * 20)
    data = client.save(id)
    # In the place of a session of another model, which has pages there.
    restored = client.restore(other, data)
    assert restored.status_code == 200
    assert (restored.json()["model"], restored.json()["state"]) == ("b", "warm")
    usage = client.http.get("/metrics").text
    assert 'causalrn_num_sessions_warm{model_name="a"} 0.0' in usage
    assert 'causalrn_num_sessions_warm{model_name="b"} 2.0' in usage
    answer = client.turn(other, "hello")
    assert (answer["model"], answer["usage"]["cached_tokens"]) == ("b", 82)
    assert client.http.get("/info").json()["limits"]["max_snapshot_bytes"] > len(data)
    client.unload("b")
    refused = client.restore("ses-" + "1" * 32, data)
    assert error_type(refused, 422) == "invalid_snapshot"
    assert f"of weights {fingerprint('b'):.12}, this server has" in refused.text


@pytest.mark.parametrize(
    "metadata",
    [
        b'{"__metadata__":1}', b'{"__metadata__":{"fingerprint":1}}', b"[]", b"1", b'"x"',
        b'{"__metadata__":[]}', b"[" * 50_000, b'{"__metadata__":{"fingerprint":"\\ud800"}}',
        b'{"__metadata__":{"fingerprint":"' + b"f" * 10_000 + b'"}}',
    ],
)  # fmt: skip
def test_a_snapshot_whose_header_lies_is_refused(client: Client, metadata: bytes) -> None:
    for size in (len(metadata), 0, 2**64 - 1):
        refused = client.restore("ses-" + "1" * 32, size.to_bytes(8, "little") + metadata)
        assert error_type(refused, 422) == "invalid_snapshot"
        assert len(refused.content) < 1000


def test_sessions_outlast_their_model(shelf: Shelf) -> None:
    with serving(shelf, shelf.settings("a", "b")) as (live, client):
        id = client.create(model="b")
        client.turn(id, "hello")
        assert client.get(id)["state"] == "warm"
        unloaded = weakref.ref(live.app.state.engines.get("b"))
        assert client.unload("b").status_code == 204
        live.wait_until(lambda: unloaded() is None)
        session = client.get(id)
        assert (session["state"], session["model"], session["pool_bytes"]) == ("cold", "b", 0)
        assert [one["id"] for one in client.http.get("/sessions").json()["sessions"]] == [id]
        for refused in (
            client.post(id, "world"),
            client.post(id, "world", model="b"),
            client.http.get(f"/sessions/{id}/snapshot"),
        ):
            assert error_type(refused, 409) == "session_of_other_weights"
            assert f"to weights {fingerprint('b'):.12} (b), this server has" in refused.text
        assert client.log(id) == copied("hello")
        assert client.load("b").status_code == 201
        answer = client.turn(id, "world")
        assert (answer["text"], answer["usage"]["cached_tokens"]) == ("world", 0)
        assert client.log(id) == copied("hello") + copied("world")
        client.unload("b")
        client.delete(id)
        assert error_type(client.http.get(f"/sessions/{id}"), 404) == "session_not_found"


def test_the_same_weights_under_another_name(client: Client) -> None:
    id = client.create(model="b")
    client.turn(id, "hello")
    client.load("b-twin")
    assert client.turn(id, "hello", model="b")["model"] == "b"
    assert error_type(client.post(id, "hello", model="b-twin"), 409) == "session_of_other_weights"
    client.unload("b")
    for options in ({}, {"model": "b"}, {"model": "b-twin"}):
        assert client.turn(id, "hello", **options)["model"] == "b-twin"
    client.load("b")
    answer = client.turn(id, "hello")
    assert (answer["model"], answer["usage"]["cached_tokens"]) == ("b", 0)
    client.delete(id)
    assert client.http.get("/health/ready").json()["pages_used"] == 0


def test_a_turn_that_begins_while_its_model_is_unloaded(
    shelf: Shelf, held_begin: HeldBegin
) -> None:
    with (
        serving(shelf, shelf.settings("a", "b", drain_seconds=20)) as (live, client),
        ThreadPoolExecutor(2) as pool,
    ):
        id = client.create(model="b")
        leaving = weakref.ref(live.app.state.engines.get("b"))

        def begin() -> httpx.Response:
            """On a connection of its own: an open one keeps what its last request raised."""
            with live.client(headers=HEADERS) as http:
                return Client(http).post(id, "hello")

        turn = pool.submit(begin)
        assert held_begin.reached.wait(10)
        unloading = pool.submit(client.unload, "b")
        live.wait_until(lambda: "engine b" not in engine_threads())
        held_begin.open()
        assert error_type(turn.result(20), 503) == "model_unloaded"
        assert unloading.result(20).status_code == 204
        assert live.n_turns == 0
        live.wait_until(lambda: leaving() is None)
        client.load("b")
        assert client.turn(id, "", mode="raw")["text"] == "hello"
