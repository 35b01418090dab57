"""Sessions that are saved, and restored on this server or another."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest

from causalrn.server.engine.pooled_sessions import PooledSessions
from tests.server.conftest import Gate, make_settings, pool_of
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer, serve
from tests.server.session_client import NOBODY, SessionClient, copied, error_type
from tests.server.sessions.digest import with_digest
from tests.server.steps import AtStep


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
    settings = pool_of(16)
    with serve(model, settings) as live, live.client() as client:
        api = SessionClient(client)
        live.model.decoder.before_extend = AtStep(4, gate)
        with api.stream(api.create(), "y" * 60) as stream:
            assert gate.reached.wait(10)
            with ThreadPoolExecutor(1) as pool:
                restoring = pool.submit(api.restore, id, data)
                live.wait_until(lambda: live.n_calls == 1)
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
        (b"\0\0\xa0\0\0\0\0\0" + b'{"__metadata__":[' + b"[]," * 15_000, "its header has 10485760"),
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


@pytest.mark.parametrize(
    "media_type", ["Application/Octet-Stream", "application/octet-stream; x=y"]
)
def test_names_of_octets(api: SessionClient, media_type: str) -> None:
    headers = {"content-type": media_type}
    refused = api.http.put(f"/sessions/{NOBODY}/snapshot", content=b"x", headers=headers)
    assert error_type(refused, 422) == "invalid_snapshot"


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


def test_a_client_that_sends_a_snapshot_slowly_holds_nobody_up(
    live: LiveServer, own: SessionClient
) -> None:
    id = own.create()
    own.turn(id, "hello")
    data = own.save(id)
    with ExitStack() as stack:
        slow = [stack.enter_context(live.connect()) for _ in range(8)]
        for connection in slow:
            connection.sendall(upload_head(len(data)) + data[:-1])
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


def test_uploads_that_never_end_are_bounded(live: LiveServer, own: SessionClient) -> None:
    id = own.create()
    own.turn(id, "hello")
    data = own.save(id)
    with ExitStack() as stack:
        slow = [stack.enter_context(live.connect()) for _ in range(16)]
        for connection in slow:
            connection.sendall(upload_head(len(data)) + data[:-1])
        live.wait_until(lambda: live.n_tasks == 16)
        refused = own.restore(id, data)
        assert error_type(refused, 503) == "overloaded"
        assert refused.headers["retry-after"] == "1"
        slow[0].close()
        live.wait_until(lambda: live.n_tasks == 15)
        assert own.restore(id, data).status_code == 200


def test_an_upload_that_comes_drop_by_drop_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("causalrn.server.http.spool._PATIENCE", 2)
    settings = make_settings(body_seconds=1)
    with serve(FakeModel(), settings) as live, live.connect() as connection:
        connection.sendall(upload_head(50_000))
        connection.settimeout(0.05)
        answer = b""
        while not answer:  # each byte comes in time
            connection.sendall(b"x")
            with suppress(TimeoutError):
                answer = connection.recv(10_000)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"did not arrive within 2 s" in answer


def upload_head(n: int) -> bytes:
    return (
        f"PUT /sessions/{NOBODY}/snapshot HTTP/1.1\r\nhost: test\r\n"
        f"content-type: application/octet-stream\r\ncontent-length: {n}\r\n\r\n"
    ).encode()
