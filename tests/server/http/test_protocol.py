"""What comes before a request is one, and after it."""

import json
import random
import select
import socket
import time

import pytest

from causalrn.model.state import RaggedBatch
from tests.server.conftest import Gate, make_settings
from tests.server.fake_model import FakeModel, VerboseTokenizer
from tests.server.live_server import LiveServer, serve
from tests.server.raw_http import (
    GOOD,
    PATIENCE,
    QuickProtocol,
    assert_harmless,
    assert_refused,
    exchange,
    post,
    read_all,
    send,
    statuses,
)

HEAD = b"POST /generate HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n"


def test_random_bytes_are_refused(quick: LiveServer) -> None:
    noise = random.Random(0)
    blobs = [noise.randbytes(noise.randrange(1, 2000)) for _ in range(200)]
    starts = (b"", b"GET ", b"POST /generate HTTP/1.1\r\n", GOOD[:-10])
    for start in starts:
        for answer in exchange(quick, *(start + blob for blob in blobs)):
            assert_refused(answer)


def test_a_request_cut_off_anywhere_is_refused(quick: LiveServer) -> None:
    for answer in exchange(quick, *(GOOD[:end] for end in range(len(GOOD)))):
        assert_refused(answer)
    (whole,) = exchange(quick, GOOD)
    assert statuses(whole) == [200]


@pytest.mark.parametrize("byte", [b"\0", b"\n", b"\r", b" ", b"\xff", b":", b"9"])
def test_one_wrong_byte_anywhere_does_no_harm(quick: LiveServer, byte: bytes) -> None:
    spoilt = [GOOD[:at] + byte + GOOD[at + 1 :] for at in range(len(GOOD))]
    for answer in exchange(quick, *spoilt):
        assert_harmless(answer)


def dripped(live: LiveServer, *cases: tuple[bytes, bytes]) -> list[bytes]:
    """The answers to things that never end: how each begins, and what comes again and again."""
    connections = [live.connect() for _ in cases]
    answers = [b""] * len(cases)
    running = dict(enumerate(connections))
    deadline = time.monotonic() + 20
    for connection, (start, _) in zip(connections, cases, strict=True):
        connection.sendall(start)
    while running:
        assert time.monotonic() < deadline, f"never cut off: {[cases[i] for i in running]}"
        readable, _, _ = select.select(running.values(), [], [], 0.05)
        for i, connection in list(running.items()):
            if connection not in readable:
                send(connection, cases[i][1])
                continue
            try:
                piece = connection.recv(65536)
            except ConnectionResetError:
                piece = b""
            answers[i] += piece
            if not piece:
                running.pop(i).close()
    return answers


def error_type(answer: bytes) -> str:
    """That of the last response."""
    head, _, body = answer[answer.rindex(b"HTTP/1.1 ") :].partition(b"\r\n\r\n")
    assert b"\r\nx-content-type-options: nosniff" in head
    assert b"\r\nconnection: close" in head
    return str(json.loads(body)["error"]["type"])


def test_slow_heads_are_cut_off(quick: LiveServer) -> None:
    cases = [
        (b"G", b""),
        (b"GET /", b"a"),
        (b"GET / HTTP/1.1\r\n", b"x: y\r\n"),
        (b"GET / HTTP/1.1\r\nx: ", b"y"),
        (b"\r\n", b"\r\n"),
    ]
    for answer in dripped(quick, *cases):
        assert statuses(answer) == [408]
        assert error_type(answer) == "request_timeout"


def test_a_client_that_says_nothing_is_hung_up_on(quick: LiveServer) -> None:
    for answer in exchange(quick, *[b""] * 50):
        assert answer == b""


def test_slow_second_heads_are_cut_off(quick: LiveServer) -> None:
    first = GOOD.replace(b"connection: close\r\n", b"")
    cases = [(first + b"GE", b""), (first, b"\r\n"), (first + b"GET / HTTP/1.1\r\nx: ", b"y")]
    for answer in dripped(quick, *cases):
        assert statuses(answer)[0] == 200


def test_slow_bodies_are_cut_off(quick: LiveServer) -> None:
    chunked = HEAD + b"transfer-encoding: chunked\r\n\r\n"
    cases = [
        (HEAD + b"content-length: 1000\r\n\r\n", b" "),
        (chunked, b"1\r\n \r\n"),
        (chunked + b"1;", b"x"),
        (chunked + b"0\r\n", b"x: y\r\n"),
    ]
    for answer in dripped(quick, *cases):
        assert statuses(answer) == [408]
        assert error_type(answer) == "request_timeout"


def test_a_snapshot_may_take_longer_as_long_as_it_comes(quick: LiveServer) -> None:
    start = (
        b"PUT /sessions/ses-%s/snapshot HTTP/1.1\r\nhost: test\r\nconnection: close\r\n"
        b"content-type: application/octet-stream\r\ncontent-length: 40\r\n\r\n" % (b"0" * 32)
    )
    # At 0.05 s a byte it takes more than twice the time that another body may take.
    (answer,) = dripped(quick, (start, b"x"))
    assert statuses(answer) == [422]
    (answer,) = exchange(quick, start + b"x" * 39)
    assert statuses(answer) == [408]
    assert error_type(answer) == "request_timeout"


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"GET /", b"a" * 1000),
        (b"GET / HTTP/1.1\r\n", b"x: y\r\n" * 200),
        (b"GET / HTTP/1.1\r\nx: ", b"y" * 1000),
        (b"GET / HTTP/1.1\r\n", b"y" * 1000),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n1;", b"x" * 1000),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n", b"x: y\r\n" * 200),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\nx: ", b"y" * 1000),
    ],
    ids=["URL", "headers", "value", "name", "extension", "trailers", "trailer"],
)
def test_an_endless_head_is_cut_off(patient: LiveServer, start: bytes, piece: bytes) -> None:
    with patient.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        sent = send(connection, start)
        n_sent = 0
        while sent and n_sent < 100_000_000:
            sent = send(connection, piece)
            n_sent += len(piece)
        assert n_sent < 100_000_000
        answer = read_all(connection)
        assert_refused(answer)
        assert 408 not in statuses(answer)  # for its size, before it could be late


def test_the_rest_of_a_body_that_was_refused_is_not_awaited_for_ever(quick: LiveServer) -> None:
    start = HEAD + b"content-length: 99999999\r\n\r\n"
    (answer,) = dripped(quick, (start, b" "))
    assert statuses(answer) == [413]


def test_a_client_that_does_not_read_is_cut_off() -> None:
    settings = make_settings(pool_bytes=100_000, max_batch_tokens=1000)
    with serve(FakeModel(VerboseTokenizer()), settings, http=QuickProtocol) as live:
        with live.connect(receive_buffer=4096) as connection:
            # Ten million characters, more than all buffers on the way take.
            live.send_generate(connection, {"prompt": "x" * 1000, "stream": True})
            begin = connection.recv(12)
            assert begin == b"HTTP/1.1 200"
            assert live.n_tasks == 1
            live.wait_until(lambda: live.n_connections == 0)
            live.wait_until(lambda: live.n_tasks == 0)
            assert not read_all(connection).endswith(b"0\r\n\r\n")
        live.wait_until_idle()


def test_a_head_that_waits_for_the_response_before_it_is_not_late(
    quick: LiveServer, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow answer is no reason to hang up on who asked for it."""
    monkeypatch.setattr(quick.model.decoder, "before_extend", gate)
    with quick.connect() as connection:
        start = GOOD.replace(b"connection: close\r\n", b"")
        connection.sendall(start)
        assert gate.reached.wait(10)
        connection.sendall(GOOD[:20])
        time.sleep(2 * PATIENCE)  # more than a head may take
        connection.sendall(GOOD[20:])
        gate.open()
        assert statuses(read_all(connection)) == [200, 200]


def test_trailers_do_not_become_headers(quick: LiveServer) -> None:
    body = b'2\r\n{"\r\ne\r\nprompt": "hi"}\r\n0\r\nx-request-id: from-a-trailer\r\n\r\n'
    (answer,) = exchange(quick, post(body, b"transfer-encoding: chunked", length=False))
    assert statuses(answer) == [200]
    assert b"from-a-trailer" not in answer


def test_what_is_not_http_is_told_in_the_one_shape(quick: LiveServer) -> None:
    (answer,) = exchange(quick, b"nonsense\r\n\r\n")
    assert statuses(answer) == [400]
    assert error_type(answer) == "malformed_request"


def test_garbage_after_a_request_does_not_get_into_its_answer(
    quick: LiveServer, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hold_after_the_prompt(batch: RaggedBatch) -> None:
        if len(batch.token_ids) == len(batch.slots):
            gate(batch)

    monkeypatch.setattr(quick.model.decoder, "before_extend", hold_after_the_prompt)
    with quick.connect() as connection:
        quick.send_generate(connection, {"prompt": "hi", "stream": True})
        answer = b""
        while b'"text":"h"' not in answer:  # in the middle of the answer
            piece = connection.recv(65536)
            assert piece, answer
            answer += piece
        connection.sendall(b"nonsense\r\n\r\n")
        answer += read_all(connection)
    gate.open()
    assert answer.count(b"HTTP/1.1 ") == 1
    start = GOOD.replace(b"connection: close\r\n", b"")
    (answer,) = exchange(quick, start + b"nonsense\r\n\r\n")
    assert answer.count(b"HTTP/1.1 ") <= 1
