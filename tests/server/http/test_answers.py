"""Every answer is counted, and has one line in the log that says whose it was."""

import json
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import pytest
from fastapi.responses import StreamingResponse
from prometheus_client.parser import text_string_to_metric_families

from causalrn.server.auth.key_format import new_key
from causalrn.server.http.answers import Answers
from tests.server.conftest import Gate, make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer, serve
from tests.server.raw_http import GOOD, QuickProtocol, exchange, post, read_all, send, statuses

KEYS = {name: new_key() for name in ("free", "slow")}


@pytest.fixture(scope="module")
def locked() -> Iterator[LiveServer]:
    """A server with keys, one of them for a single request in a minute, and with little room."""
    limits = {"slow": {"requests_per_minute": 1}}
    keys = [{"name": name, "hash": KEYS[name][1], **limits.get(name, {})} for name in KEYS]
    settings = make_settings(
        api_keys=json.dumps(keys),
        cors_origins="https://example.org",
        max_running=1,
        max_waiting=0,
    )
    with serve(FakeModel(), settings, http=QuickProtocol) as live:
        yield live


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {KEYS[name][0]}"}


def figures(live: LiveServer, family: str) -> dict[tuple[str, ...], float]:
    """A family's samples that are not 0, by the values of their labels."""
    with live.client(headers=bearer("free")) as client:
        text = client.get("/metrics").text
    (found,) = [one for one in text_string_to_metric_families(text) if one.name == family]
    return {tuple(one.labels.values()): one.value for one in found.samples if one.value}


def refuse_with_429(live: LiveServer, _: Gate) -> httpx.Response:
    live.post({"prompt": "hi"}, headers=bearer("slow"))
    return live.post({"prompt": "hi"}, headers=bearer("slow"))


def refuse_with_503(live: LiveServer, gate: Gate) -> httpx.Response:
    live.model.decoder.before_extend = gate
    with live.connect() as connection:
        key = b"authorization: Bearer %s" % KEYS["free"][0].encode()
        send(connection, post(b'{"prompt": "hi"}', key))
        assert gate.reached.wait(20)
        refused = live.post({"prompt": "hi"}, headers=bearer("free"))
        gate.open()
        read_all(connection)
    live.model.decoder.before_extend = lambda _: None
    return refused


def refuse_with_413(live: LiveServer, _: Gate) -> httpx.Response:
    return live.post(b'"%s"' % (b"x" * 70_000), headers=bearer("free"))


def refuse_with_422(live: LiveServer, _: Gate) -> httpx.Response:
    return live.post({"prompt": "hi", "n": 0}, headers=bearer("free"))


def refuse_with_401(live: LiveServer, _: Gate) -> httpx.Response:
    return live.post({"prompt": "hi"})


@pytest.mark.parametrize(
    ("refuse", "status", "reason", "level"),
    [
        (refuse_with_503, 503, "overloaded", logging.WARNING),
        (refuse_with_429, 429, "rate_limited", logging.INFO),
        (refuse_with_413, 413, "body_too_large", logging.INFO),
        (refuse_with_422, 422, "invalid_request", logging.INFO),
        (refuse_with_401, 401, "unauthorized", logging.INFO),
    ],
)
def test_a_refusal_is_counted_and_logged_once(
    locked: LiveServer,
    gate: Gate,
    caplog: pytest.LogCaptureFixture,
    refuse: Callable[[LiveServer, Gate], httpx.Response],
    status: int,
    reason: str,
    level: int,
) -> None:
    ours = ("POST", "/generate", str(status))
    errors = figures(locked, "causalrn_http_errors")
    requests = figures(locked, "causalrn_http_requests")
    caplog.set_level(logging.DEBUG, "server")
    refused = refuse(locked, gate)
    assert refused.status_code == status
    id = refused.headers["x-request-id"]
    lines = [record for record in caplog.records if id in record.getMessage()]
    assert [(line.levelno, line.name) for line in lines] == [
        (level, "causalrn.server.http.answers")
    ]
    assert f"POST /generate: {status} {reason} " in lines[0].getMessage()
    after = figures(locked, "causalrn_http_errors")
    assert after[reason, str(status)] == errors.get((reason, str(status)), 0) + 1
    after = figures(locked, "causalrn_http_requests")
    assert after[ours] == requests.get(ours, 0) + 1


def test_an_error_names_its_field_and_nothing_secret_is_logged(
    locked: LiveServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "server")
    with locked.client(headers=bearer("free")) as client:
        client.post("/generate?token=secret-1", json={"prompt": "secret-2", "n": "secret-3"})
        client.get("/secret%0A4", headers={"cookie": "secret-5"})
    text = caplog.text
    assert "POST /generate: 422 invalid_request (n) in " in text
    assert "GET /secret%0A4: 404 not_found in " in text
    for hidden in (*(f"secret-{n}" for n in (1, 2, 3, 5)), KEYS["free"][0]):
        assert hidden not in text


def test_what_the_app_never_sees_is_counted_and_logged_too(
    locked: LiveServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "server")
    before = figures(locked, "causalrn_http_errors")
    cases = {
        b"NONSENSE\r\n\r\n": (400, "malformed_request"),
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 10_000: (431, "headers_too_large"),
        GOOD[:20]: (408, "request_timeout"),
    }
    for answer, (status, reason) in zip(exchange(locked, *cases), cases.values(), strict=True):
        assert statuses(answer) == [status]
        (id,) = re.findall(rb"x-request-id: (\w+)\r\n", answer)
        (line,) = [one for one in caplog.messages if id.decode() in one]
        assert line.startswith(f"an incomplete request: {status} {reason} in ")
        after = figures(locked, "causalrn_http_errors")
        assert after[reason, str(status)] == before.get((reason, str(status)), 0) + 1


def test_what_is_over_uvicorns_own_limit_is_refused_like_anything_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with serve(FakeModel(), make_settings(), limit_concurrency=2) as live:
        assert live.post({"prompt": "hi"}).status_code == 200
        live.wait_until(lambda: not live.n_connections)
        with live.connect():
            live.wait_until(lambda: live.n_connections == 1)
            refused = live.post({"prompt": "hi"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["error"]["type"] == "overloaded"
        (line,) = [one for one in caplog.messages if refused.headers["x-request-id"] in one]
        assert line.startswith("POST /generate: 503 overloaded in ")
        live.wait_until(lambda: not live.n_connections)
        assert figures(live, "causalrn_http_errors") == {("overloaded", "503"): 1}


def test_an_answer_that_breaks_off_is_found_by_its_id(caplog: pytest.LogCaptureFixture) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"
        raise ZeroDivisionError

    with serve(FakeModel(), make_settings()) as live:

        @live.app.get("/broken")
        async def broken() -> StreamingResponse:
            return StreamingResponse(pieces())

        with live.client() as client, pytest.raises(httpx.RemoteProtocolError):
            client.get("/broken", headers={"x-request-id": "find-me"})
        live.wait_until(lambda: not live.n_tasks)
    lines = [
        one.getMessage() for one in caplog.records if one.name.startswith("causalrn.server.http.")
    ]
    assert lines[-1] == "the answer to request find-me broke off"


def test_a_preflight_that_is_refused_has_an_id_and_a_line(
    locked: LiveServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "server")
    headers = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    with locked.client() as client:
        refused = client.options("/generate", headers=headers)
    assert refused.status_code == 400
    (line,) = [one for one in caplog.messages if refused.headers["x-request-id"] in one]
    assert line.startswith("OPTIONS /generate: 400")


def test_a_client_that_leaves_before_its_answer_is_counted(locked: LiveServer) -> None:
    head = b"POST /generate HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n"
    key = KEYS["free"][0].encode()
    with locked.connect() as connection:
        send(connection, head + b"authorization: Bearer %s\r\ncontent-length: 9\r\n\r\n{" % key)
        locked.wait_until(lambda: locked.n_tasks == 1)
    left = "POST", "/generate", "499"
    locked.wait_until(lambda: figures(locked, "causalrn_http_requests").get(left) == 1)


def test_clients_cannot_make_up_labels(locked: LiveServer) -> None:
    with locked.client(headers=bearer("free")) as client:
        for n in range(20):
            client.request("GET", f"/made/up/{n}")
            client.request("MKCOL", "/generate")
            client.get(f"/sessions/made-up-{n}")
    labels = figures(locked, "causalrn_http_requests")
    assert not [label for label in labels if "made" in str(label)]
    assert labels["GET", "none", "404"] >= 20
    assert labels["other", "/generate", "405"] == 20
    assert labels["GET", "/sessions/{session_id}", "404"] == 20


def test_health_checks_are_logged_only_when_they_fail(
    shared: LiveServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "server")
    with shared.client() as client:
        for path in ("/health", "/health/live", "/health/ready", "/metrics"):
            assert client.get(path).status_code == 200
        assert client.get("/info").status_code == 200
    (line,) = caplog.messages
    assert line.startswith("GET /info: 200 in ")


def test_every_error_is_counted_from_zero() -> None:
    (errors,) = [one for one in Answers().collect() if one.name == "causalrn_http_errors"]
    counted = {(one.labels["reason"], one.labels["status"]) for one in errors.samples}
    assert {("overloaded", "503"), ("rate_limited", "429"), ("session_full", "413")} <= counted
    assert {one.value for one in errors.samples} == {0}
