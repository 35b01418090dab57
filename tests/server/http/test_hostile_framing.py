"""Bodies whose end is written in an odd way, or that never come to it.

What comes with the oddities is right, so that nothing but them can be refused.
"""

import pytest

from tests.server.http.odd_requests import BODY, CHUNK, CHUNKED
from tests.server.live_server import LiveServer
from tests.server.raw_http import (
    GOOD,
    assert_harmless,
    assert_refused,
    exchange,
    post,
    statuses,
    unharmed,
)


def test_a_client_may_hang_up_anywhere(quick: LiveServer) -> None:
    with unharmed(quick):
        for end in range(len(GOOD) + 1):
            with quick.connect() as connection:
                connection.sendall(GOOD[:end])


def test_what_the_oddities_come_with_is_served(patient: LiveServer) -> None:
    answers = exchange(
        patient,
        post(BODY, b"content-length: 16", length=False),
        post(CHUNK + b"0\r\n\r\n", CHUNKED, length=False),
        post(BODY, b"x: y"),
    )
    assert [*map(statuses, answers)] == [[200]] * 3


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\n" + CHUNK + b"0\r\n\r\n",
        b"-10\r\n" + BODY + b"\r\n0\r\n\r\n",
        b"+10\r\n" + BODY + b"\r\n0\r\n\r\n",
        b"0x10\r\n" + BODY + b"\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\n" + BODY,
        b"f\r\n" + BODY + b"\r\n0\r\n\r\n",
        b"10\r\n" + BODY + b"0\r\n\r\n",
        b"10\n" + BODY + b"\n0\n\n",
        b"\r\n" + CHUNK + b"0\r\n\r\n",
        b"10;x=\0\r\n" + BODY + b"\r\n0\r\n\r\n",
        CHUNK + b"0\r\nbad trailer\r\n\r\n",
        b"0\r\n\r\n" + CHUNK,
    ],
)
def test_odd_chunks_are_refused(patient: LiveServer, body: bytes) -> None:
    for answer in exchange(patient, post(body, CHUNKED, length=False)):
        assert_refused(answer)
        assert 408 not in statuses(answer)


@pytest.mark.parametrize(
    "headers",
    [
        [b"content-length: -1"],
        [b"content-length: -16"],
        [b"content-length: +16"],
        [b"content-length: 16, 16"],
        [b"content-length: 16", b"content-length: 16"],
        [b"content-length: 16", b"content-length: 17"],
        [b"content-length: 0x10"],
        [b"content-length: 16e0"],
        [b"content-length: " + b"9" * 30],
        [b"content-length: 18446744073709551632"],  # sixteen, in 64 bits
        [b"content-length: 18446744073709551615"],
        [b"content-length: 9223372036854775807"],
        [b"content-length:"],
        [b"content-length: 1\xb6"],
        [CHUNKED, CHUNKED],
        [b"transfer-encoding: gzip"],
        [b"transfer-encoding: chunked, gzip"],
        [b"transfer-encoding: \x0bchunked"],
        [],
    ],
)
def test_odd_lengths_are_refused(patient: LiveServer, headers: list[bytes]) -> None:
    bodies = [BODY]
    if any(b"chunked" in header for header in headers):
        bodies.append(CHUNK + b"0\r\n\r\n")
    for answer in exchange(patient, *(post(body, *headers, length=False) for body in bodies)):
        assert_refused(answer)
        assert 408 not in statuses(answer)


@pytest.mark.parametrize(
    ("header", "body"),
    [(b"content-length: 17", BODY), (CHUNKED, b"ffffffffffffffff\r\n" + BODY)],
)
def test_a_body_shorter_than_it_says_is_408(quick: LiveServer, header: bytes, body: bytes) -> None:
    (answer,) = exchange(quick, post(body, header, length=False))
    assert statuses(answer) == [408]


def test_a_body_with_two_lengths_is_refused(patient: LiveServer) -> None:
    """Each is right by itself; a proxy might go by the other one."""
    body = CHUNK + b"0\r\n\r\n"
    headers = [b"content-length: %d" % len(body), CHUNKED]
    both_ways = [post(body, *headers, length=False), post(body, *headers[::-1], length=False)]
    for answer in exchange(patient, *both_ways):
        assert_refused(answer)
        assert 408 not in statuses(answer)


def test_trailers_do_not_count_as_headers(patient: LiveServer) -> None:
    trailers = b"content-type: text/plain\r\nauthorization: Bearer x\r\nexpect: 200-ok\r\n"
    (answer,) = exchange(
        patient, post(CHUNK + b"0\r\n" + trailers + b"\r\n", CHUNKED, length=False)
    )
    assert statuses(answer) == [200]


def test_pipelined_requests_are_answered_one_by_one(patient: LiveServer) -> None:
    kept = GOOD.replace(b"connection: close\r\n", b"")
    bad = kept.replace(b'{"prompt": "hi"}', b'{"prompt": 12345}'[: len(b'{"prompt": "hi"}')])
    answers = exchange(
        patient,
        kept * 20 + GOOD,
        bad * 20 + GOOD,
        kept + b"nonsense\r\n\r\n",
        b"\r\n\r\n\r\n" + GOOD,
        GOOD + b"nonsense",
        b"GET /nowhere HTTP/1.1\r\nhost: test\r\n\r\n" * 500 + GOOD,
    )
    assert statuses(answers[0]) == [200] * 21
    assert statuses(answers[1]) == [400] * 20 + [200]
    assert statuses(answers[3]) == [200]
    assert statuses(answers[5]) == [404] * 500 + [200]
    for answer in answers:
        assert_harmless(answer)
