"""Who may come in, over real sockets."""

import json
import logging
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Depends
from fastapi.routing import iter_route_contexts

from causalrn.server.api.accounts import require_admin
from causalrn.server.auth.access import Account
from causalrn.server.auth.key_format import new_key
from tests.server.conftest import Gate, make_settings
from tests.server.fake_model import FakeModel, VerboseTokenizer
from tests.server.live_server import LiveServer, events, serve

KEYS = {name: new_key() for name in ("alice", "root", "slow", "small", "single")}
HEALTH = {"/health", "/health/live", "/health/ready"}


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {KEYS[name][0]}"}


def entries(**changes: dict[str, Any]) -> str:
    """The setting for all keys."""
    return json.dumps(
        [{"name": name, "hash": hash, **changes.get(name, {})} for name, (_, hash) in KEYS.items()]
    )


@pytest.fixture(scope="module")
def locked() -> Iterator[LiveServer]:
    """A server with keys, and an admin route."""
    keys = entries(
        root={"role": "admin"},
        slow={"requests_per_minute": 2},
        small={"tokens_per_minute": 10},
    )
    with serve(FakeModel(), make_settings(api_keys=keys)) as live:
        live.app.include_router(admin_router())
        yield live


def admin_router() -> APIRouter:
    router = APIRouter(dependencies=[Depends(require_admin)])

    @router.get("/test/admin")
    async def administer() -> str:
        return "done"

    return router


def error(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["type"]


def addresses(live: LiveServer) -> list[tuple[str, str]]:
    """Method and path of every route there is, however it was added."""
    found = []
    for route in iter_route_contexts(live.app.routes):
        path = str(route.path)
        assert route.methods, path  # nothing is mounted or listens for WebSockets
        found += [(method, path) for method in sorted(route.methods)]
    return found


def answer(live: LiveServer, method: str, path: str, headers: bytes = b"") -> bytes:
    """The answer to a request that waits to be asked for its body."""
    path = re.sub(r"\{.*?\}", "x", path)
    with live.connect() as connection:
        connection.sendall(
            f"{method} {path} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n"
            "content-length: 2\r\nexpect: 100-continue\r\nconnection: close\r\n".encode()
            + headers
            + b"\r\n"
        )
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_no_route_answers_without_a_key_or_asks_for_a_body(locked: LiveServer) -> None:
    found = addresses(locked)
    paths = {path for _, path in found}
    expected = {"/generate", "/sessions", "/metrics", "/docs", "/redoc", "/openapi.json", "/info"}
    assert expected | HEALTH <= paths
    for method, path in found:
        if path in HEALTH:
            continue
        for headers in (b"", b"authorization: Bearer crn-wrong\r\n"):
            got = answer(locked, method, path, headers)
            assert got.startswith(b"HTTP/1.1 401 "), (method, path)  # and not by "100 Continue"
            assert b"\r\nwww-authenticate: Bearer\r\n" in got
            field = b"code" if path.startswith("/v1/") else b"type"
            assert b'"%s":"unauthorized"' % field in got
            assert b"crn-wrong" not in got


def test_health_needs_no_key(locked: LiveServer) -> None:
    with locked.client() as client:
        for path in HEALTH:
            assert client.get(path).status_code == 200
            assert client.get(path, headers={"authorization": "nonsense"}).status_code == 200


@pytest.mark.parametrize(
    "given",
    [
        "Bearer",
        "Basic {key}",
        "{key}",
        "Bearer {key}x",
        "Bearer {hash}",
        "Bearer {half}",
    ],
)
def test_a_header_that_is_no_key_is_refused(locked: LiveServer, given: str) -> None:
    key, hash = KEYS["alice"]
    headers = {"authorization": given.format(key=key, hash=hash, half=key[: len(key) // 2])}
    response = locked.post({"prompt": "hi"}, headers=headers)
    assert error(response) == (401, "unauthorized")
    assert not any(part in response.text for part in (key, hash))


def test_two_keys_in_one_request_are_refused(locked: LiveServer) -> None:
    both = b"".join(
        f"authorization: Bearer {KEYS[name][0]}\r\n".encode() for name in ("alice", "root")
    )
    assert answer(locked, "GET", "/info", both).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer "])
def test_a_key_opens(locked: LiveServer, scheme: str) -> None:
    headers = {"authorization": f"{scheme} {KEYS['alice'][0]}"}
    assert locked.post({"prompt": "hi"}, headers=headers).json()["text"] == "hi"


def test_every_route_opens_to_a_key(locked: LiveServer) -> None:
    with locked.client(headers=bearer("alice")) as client:
        for path in ("/info", "/metrics", "/docs", "/redoc", "/openapi.json", "/sessions"):
            assert client.get(path).status_code == 200


def test_admin_routes_are_for_admins(locked: LiveServer) -> None:
    with locked.client() as client:
        refused = client.get("/test/admin", headers=bearer("alice"))
        assert error(refused) == (403, "forbidden")
        assert "'alice' is a user's" in refused.json()["error"]["message"]
        assert client.get("/test/admin", headers=bearer("root")).json() == "done"


def test_without_keys_nobody_is_an_admin(shared: LiveServer) -> None:
    shared.app.include_router(admin_router())
    with shared.client() as client:
        assert client.get("/info").status_code == 200
        for headers in ({}, bearer("root")):
            refused = client.get("/test/admin", headers=headers)
            assert error(refused) == (403, "forbidden")
            assert "causalrn key NAME --role admin" in refused.json()["error"]["message"]


def test_keys_are_never_logged(locked: LiveServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "causalrn.server")  # which has a level of its own
    locked.post({"prompt": "hi"}, headers=bearer("alice"))
    locked.post({"prompt": "hi"}, headers={"authorization": "Bearer crn-unknown"})
    assert [record for record in caplog.records if record.name.startswith("causalrn.server.")]
    for hidden in ("crn-", *(part for key in KEYS.values() for part in key)):
        assert hidden not in caplog.text


def test_the_document_names_the_scheme_and_the_errors(locked: LiveServer) -> None:
    document = locked.app.openapi()
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path in HEALTH:
                assert "security" not in operation
            elif path != "/test/admin":
                assert operation["security"] == [{"key": []}], path
                assert {"401", "429"} <= operation["responses"].keys(), path


def test_requests_a_minute(locked: LiveServer) -> None:
    first, second, third = (locked.post({"prompt": "hi"}, headers=bearer("slow")) for _ in range(3))
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert second.headers["x-ratelimit-remaining-requests"] == "0"
    assert error(third) == (429, "rate_limited")
    assert "2 requests a minute" in third.json()["error"]["message"]
    assert 1 <= int(third.headers["retry-after"]) <= 60
    assert third.headers["x-ratelimit-remaining-requests"] == "0"
    # Nor is its body asked for.
    auth = f"authorization: Bearer {KEYS['slow'][0]}\r\n".encode()
    assert answer(locked, "POST", "/generate", auth).startswith(b"HTTP/1.1 429 ")
    assert (
        "x-ratelimit-limit-requests"
        not in locked.post({"prompt": "hi"}, headers=bearer("alice")).headers
    )


@pytest.mark.parametrize("stream", [False, True])
def test_tokens_a_minute(stream: bool) -> None:
    keys = entries(small={"tokens_per_minute": 10})
    with serve(FakeModel(), make_settings(api_keys=keys)) as live:
        body = {"prompt": "hello", "stream": stream}
        first = live.post(body, headers=bearer("small"))
        assert first.headers["x-ratelimit-remaining-tokens"] == "0"  # it may use them all
        usage = events(first)[-2]["usage"] if stream else first.json()["usage"]
        live.wait_until(lambda: not live.n_tasks)
        second = live.post({"prompt": "hi"}, headers=bearer("small"))
        assert error(second) == (429, "rate_limited")
        assert "10 tokens a minute" in second.json()["error"]["message"]
        beyond = (usage["total_tokens"] - 10) * 6  # seconds, at 10 tokens a minute
        assert beyond < int(second.headers["retry-after"]) <= beyond + 60


@pytest.mark.parametrize("in_session", [False, True])
def test_requests_at_once_do_not_use_the_same_tokens(gate: Gate, in_session: bool) -> None:
    keys = entries(small={"tokens_per_minute": 1})
    with (
        serve(FakeModel(), make_settings(api_keys=keys)) as live,
        live.client(headers=bearer("small")) as client,
        ThreadPoolExecutor(20) as pool,
    ):
        live.model.decoder.before_extend = gate
        ids = [client.post("/sessions").json()["id"] if in_session else None for _ in range(20)]
        calls = [
            pool.submit(client.post, "/generate", json={"prompt": "hi", "session_id": id})
            for id in ids
        ]
        live.wait_until(lambda: sum(call.done() for call in calls) == 19)
        gate.open()
        answers = [call.result(20) for call in calls]
        assert sorted(answer.status_code for answer in answers) == [200] + [429] * 19
        for id, answer in zip(ids, answers, strict=True):
            if answer.status_code == 429:
                assert error(answer) == (429, "rate_limited")
                assert "1 tokens a minute" in answer.json()["error"]["message"]
            if id is not None:  # those that were refused read nothing
                found = live.run(live.sessions.get(Account(None), id))
                assert found.record.n_tokens == (7 if answer.status_code == 200 else 0)


def test_requests_at_once_and_their_tokens_come_back_however_they_end(gate: Gate) -> None:
    keys = entries(single={"max_concurrent": 1, "tokens_per_minute": 10_000})
    with serve(FakeModel(VerboseTokenizer()), make_settings(api_keys=keys)) as live:
        live.model.decoder.before_extend = gate
        streaming = live.connect()
        body = json.dumps({"prompt": "x" * 20, "stream": True}).encode()
        streaming.sendall(
            b"POST /generate HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n"
            + f"authorization: Bearer {KEYS['single'][0]}\r\n".encode()
            + b"content-length: %d\r\n\r\n%s" % (len(body), body)
        )
        assert gate.reached.wait(10)
        refused = live.post({"prompt": "hi"}, headers=bearer("single"))
        assert error(refused) == (429, "rate_limited")
        assert "1 requests at once" in refused.json()["error"]["message"]
        assert refused.headers["retry-after"] == "1"
        reserved = 10_000 - int(refused.headers["x-ratelimit-remaining-tokens"])
        assert 20 <= reserved < 100
        streaming.close()  # cut off
        gate.open()
        live.wait_until(lambda: not live.n_tasks)
        left = 10_000
        # Each of these gives its place back, or the next one would be refused.
        for bad in (b"{", b"{}", json.dumps({"prompt": ""}).encode(), b" " * 100_000):
            response = live.post(bad, headers=bearer("single"))
            assert response.status_code in (400, 413, 422)
            left = int(response.headers["x-ratelimit-remaining-tokens"])
            assert left < 10_000  # what was cut off was paid for as far as it came
        assert live.post({"prompt": "hi"}, headers=bearer("single")).status_code == 200
        with live.client(headers=bearer("single")) as client:
            assert int(client.get("/info").headers["x-ratelimit-remaining-tokens"]) < left


def test_a_client_that_hangs_up_while_it_is_let_in_leaves_no_trace() -> None:
    keys = entries(single={"max_concurrent": 20, "requests_per_minute": 100})
    with serve(FakeModel(), make_settings(api_keys=keys)) as live:
        for _ in range(20):
            connection = live.connect()
            connection.sendall(
                b"POST /generate HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n"
                + f"authorization: Bearer {KEYS['single'][0]}\r\n".encode()
                + b"content-length: 100\r\n\r\n{"
            )
            connection.shutdown(socket.SHUT_RDWR)
            connection.close()

        account = live.app.state.access.identify([bearer("single")["authorization"]])
        live.wait_until(lambda: account.headers()["x-ratelimit-remaining-requests"] == "80")
        live.wait_until(lambda: not live.n_tasks)
        assert live.post({"prompt": "hi"}, headers=bearer("single")).status_code == 200
