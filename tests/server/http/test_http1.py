"""What HTTP asks of a server, and uvicorn does not do by itself."""

import json
import re
import socket
from typing import Any

import httpx
import pytest

from causalrn.model.state import RaggedBatch
from tests.server.conftest import Gate
from tests.server.http.odd_requests import BODY, CHUNK, CHUNKED
from tests.server.live_server import LiveServer
from tests.server.raw_http import GOOD, assert_refused, exchange, post, read_all, statuses

OFFERS = [
    [b"connection: Upgrade, HTTP2-Settings", b"upgrade: h2c", b"http2-settings: AAMAAABk"],
    [b"upgrade: websocket", b"connection: upgrade", b"sec-websocket-key: AAAA"],
    [b"connection: close, upgrade", b"upgrade: TLS/1.0, h2c", b"upgrade: x"],
]
KEPT = GOOD.replace(b"connection: close\r\n", b"")
STREAM = b'{"prompt": "hi", "stream": true}'


def body_of(answer: bytes) -> Any:
    """The JSON of the last response."""
    return json.loads(answer.rpartition(b"\r\n\r\n")[2])


@pytest.mark.parametrize("offer", OFFERS, ids=["h2c", "websocket", "TLS"])
@pytest.mark.parametrize("n_pieces", [1, 2, 3])
def test_an_offer_of_another_protocol_is_ignored_and_the_body_is_read(
    patient: LiveServer, offer: list[bytes], n_pieces: int
) -> None:
    """In whatever segments it comes: in the middle of the head, or of the body."""
    for request in (post(BODY, *offer), post(CHUNK + b"0\r\n\r\n", *offer, CHUNKED, length=False)):
        end = request.index(b"\r\n\r\n") + 4
        cuts = {1: [], 2: [end], 3: [end - 2, end + 5]}[n_pieces]
        with patient.connect() as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for begin, end in zip([0, *cuts], [*cuts, len(request)], strict=True):
                connection.sendall(request[begin:end])
                httpx.get(f"{patient.url}/health/live")  # once it is answered, that was read
            answer = read_all(connection)
        assert statuses(answer) == [200]
        assert body_of(answer)["text"] == "hi"


def test_a_body_behind_an_offer_is_no_request(patient: LiveServer) -> None:
    """Each of the bodies would be one, and a proxy would not know of it."""
    offer = [b"connection: upgrade", b"upgrade: h2c"]
    hidden = b"DELETE /sessions/ses-%s HTTP/1.1\r\nhost: test\r\n\r\n" % (b"0" * 32)
    refused = post(hidden, *offer).replace(b"connection: close\r\n", b"")
    assert statuses(exchange(patient, refused + GOOD)[0]) == [400, 200]


def test_many_offers_on_one_connection_are_answered_one_by_one(patient: LiveServer) -> None:
    request = KEPT.replace(b"content-type", b"connection: upgrade\r\nupgrade: h2c\r\ncontent-type")
    answer = exchange(patient, request * 50 + GOOD)[0]
    assert statuses(answer) == [200] * 51
    smallest = b"GET / HTTP/1.1\r\nhost: test\r\nupgrade: a\r\nconnection: upgrade\r\n\r\n"
    answer = exchange(patient, smallest * 1500 + GOOD)[0]  # more than Python has stack frames
    assert statuses(answer) == [404] * 1500 + [200]


@pytest.mark.parametrize(
    "request_line", [b"CONNECT test:443 HTTP/1.1", b"GET /info HTTP/2.0", b"GET /info HTTP/0.9"]
)
def test_what_this_is_no_server_for_is_400_and_ends_the_connection(
    patient: LiveServer, request_line: bytes
) -> None:
    answer = exchange(patient, request_line + b"\r\nhost: test\r\n\r\n" + GOOD)[0]
    assert statuses(answer) == [400]
    assert body_of(answer)["error"]["type"] == "malformed_request"


def old(request: bytes) -> bytes:
    """A request as HTTP/1.0 knows it."""
    return request.replace(b" HTTP/1.1", b" HTTP/1.0").replace(b"connection: close\r\n", b"")


@pytest.mark.parametrize("host", [b"host: test\r\n", b""])
@pytest.mark.parametrize("keep_alive", [b"connection: keep-alive\r\n", b""])
def test_a_stream_to_http_1_0_has_no_chunks_and_ends_with_its_connection(
    patient: LiveServer, host: bytes, keep_alive: bytes
) -> None:
    request = old(post(STREAM)).replace(b"host: test\r\n", host + keep_alive)
    head, _, body = exchange(patient, request)[0].partition(b"\r\n\r\n")
    assert b"\r\nconnection: close" in head
    assert b"transfer-encoding" not in head
    assert b"content-length" not in head
    events = body.decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    texts = [json.loads(event.removeprefix("data: "))["text"] for event in events[:-2]]
    assert "".join(texts) == "hi"


def test_other_answers_to_http_1_0_are_as_long_as_they_say(patient: LiveServer) -> None:
    session = "/sessions/ses-" + "0" * 32
    for request, status in (
        (post(BODY), 200),
        (b"GET /info HTTP/1.1\r\n\r\n", 200),
        (b"GET /docs HTTP/1.1\r\n\r\n", 200),
        (b"GET /metrics HTTP/1.1\r\n\r\n", 200),
        (b"GET /nowhere HTTP/1.1\r\n\r\n", 404),
        (f"GET {session}/snapshot HTTP/1.1\r\n\r\n".encode(), 404),
    ):
        answer = exchange(patient, old(request))[0]
        assert statuses(answer) == [status]
        head, _, body = answer.partition(b"\r\n\r\n")
        (length,) = re.findall(rb"\r\ncontent-length: (\d+)", head)
        assert len(body) == int(length)


def test_http_1_0_knows_no_interim_answers(patient: LiveServer) -> None:
    answer = exchange(patient, old(post(BODY, b"expect: 100-continue")))[0]
    assert statuses(answer) == [200]
    answer = exchange(patient, post(BODY, b"expect: 100-continue"))[0]
    assert statuses(answer) == [100, 200]


def half_closed(live: LiveServer, request: bytes) -> bytes:
    """What a client gets that says all it has to say, and closes its side."""
    with live.connect() as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return read_all(connection)


def final(answer: bytes) -> list[int]:
    """The statuses of all responses but for interim ones."""
    return [status for status in statuses(answer) if status >= 200]


@pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "stream"])
@pytest.mark.parametrize("n_before", [0, 3])
def test_a_client_that_closes_its_side_gets_its_answers(
    patient: LiveServer, body: bytes, n_before: int
) -> None:
    kept = post(body).replace(b"connection: close\r\n", b"")  # nor does it ask for the end
    answer = half_closed(patient, KEPT * n_before + kept)
    assert final(answer) == [200] * (n_before + 1)
    assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n" if body == STREAM else b"}")


def test_a_client_that_closes_its_side_in_mid_request_is_hung_up_on(patient: LiveServer) -> None:
    assert half_closed(patient, b"") == b""
    assert half_closed(patient, GOOD[:30]) == b""
    assert_refused(half_closed(patient, GOOD[:-1]))


@pytest.mark.parametrize(
    ("body", "sign"),
    [(BODY, b"HTTP/1.1 100 Continue\r\n\r\n"), (STREAM, b"3\r\n:\n\n\r\n")],
    ids=["whole", "stream"],
)
def test_a_client_that_closes_its_side_may_wait_for_its_answer(
    patient: LiveServer, gate: Gate, monkeypatch: pytest.MonkeyPatch, body: bytes, sign: bytes
) -> None:
    """Meanwhile it is sent what it has to ignore, as that shows whether it is there."""
    monkeypatch.setattr(patient.model.decoder, "before_extend", gate)
    with patient.connect() as connection:
        connection.sendall(post(body).replace(b"connection: close\r\n", b""))
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while answer.count(sign) < 2:
            piece = connection.recv(65536)
            assert piece, answer
            answer += piece
        gate.open()
        answer += read_all(connection)
    assert final(answer) == [200]
    assert b'"hi"' in answer or b"[DONE]" in answer


def test_http_1_0_has_nothing_to_be_ignored_and_is_not_waited_for(
    patient: LiveServer, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxies speak it, and leave when their clients do."""
    monkeypatch.setattr(patient.model.decoder, "before_extend", gate)
    assert half_closed(patient, old(GOOD)) == b""


@pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "stream"])
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_a_client_that_has_read_all_and_leaves_frees_its_place(
    patient: LiveServer, gate: Gate, monkeypatch: pytest.MonkeyPatch, body: bytes, version: bytes
) -> None:
    """Its machine says no more than that of one that only closes its side."""
    monkeypatch.setattr(patient.model.decoder, "before_extend", gate)
    with patient.connect() as connection:
        connection.sendall(post(body).replace(b"HTTP/1.1", b"HTTP/" + version))
        assert gate.reached.wait(10)
        if body == STREAM:  # its head; unread bytes would be a reset
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += connection.recv(65536)
    patient.wait_until(lambda: patient.engine.n_streams == 0)


def test_a_client_that_leaves_with_requests_behind_the_first_frees_its_place(
    patient: LiveServer, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patient.model.decoder, "before_extend", gate)
    with patient.connect() as connection:
        connection.sendall(KEPT + KEPT)
        assert gate.reached.wait(10)
    patient.wait_until(lambda: patient.engine.n_streams == 0 and patient.n_tasks == 0)


def test_a_stream_goes_on_after_its_client_closed_its_side(
    patient: LiveServer, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hold_after_the_prompt(batch: RaggedBatch) -> None:
        if len(batch.token_ids) == len(batch.slots):
            gate(batch)

    monkeypatch.setattr(patient.model.decoder, "before_extend", hold_after_the_prompt)
    with patient.connect() as connection:
        patient.send_generate(connection, {"prompt": "hi", "stream": True})
        answer = b""
        while b'"text":"h"' not in answer:
            piece = connection.recv(65536)
            assert piece, answer
            answer += piece
        connection.shutdown(socket.SHUT_WR)
        while b"\n:\n\n" not in answer:
            piece = connection.recv(65536)
            assert piece, answer
            answer += piece
        gate.open()
        answer += read_all(connection)
    assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
