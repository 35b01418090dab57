"""Whatever is sent gets a 4xx or a closed connection, and leaves nothing behind.

For what comes too slowly, and for heads, see `test_protocol.py`.
"""

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from server.api.schemas.generate import GenerateRequest
from server.http.protocol import GuardedProtocol
from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer, serve
from tests.server.raw_http import (
    GOOD,
    PATIENCE,
    QuickProtocol,
    assert_harmless,
    assert_refused,
    exchange,
    post,
    statuses,
    unharmed,
)


@pytest.fixture(scope="module")
def live() -> Iterator[LiveServer]:
    settings = make_settings(body_seconds=PATIENCE, max_waiting=1000, max_reserved_pools=1000)
    with serve(FakeModel(), settings, http=QuickProtocol) as live, unharmed(live):
        yield live


@pytest.fixture(scope="module")
def patient() -> Iterator[LiveServer]:
    """For what is whole: on a busy machine it may come later than `live` would wait for it."""
    settings = make_settings(max_waiting=1000, max_reserved_pools=1000)
    with serve(FakeModel(), settings, http=GuardedProtocol) as live, unharmed(live):
        yield live


def test_a_client_that_hangs_up_anywhere(live: LiveServer) -> None:
    for end in range(len(GOOD) + 1):
        with live.connect() as connection:
            connection.sendall(GOOD[:end])


BODY = b'{"prompt": "hi"}'  # sixteen bytes
CHUNKED = b"transfer-encoding: chunked"
CHUNK = b"10\r\n" + BODY + b"\r\n"


# What comes with the oddities below is right, so that nothing but them can be refused.


def test_nothing_but_the_oddities_is_odd(patient: LiveServer) -> None:
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
def test_odd_chunks(patient: LiveServer, body: bytes) -> None:
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
def test_odd_lengths(patient: LiveServer, headers: list[bytes]) -> None:
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
def test_bodies_that_are_shorter_than_they_say(
    live: LiveServer, header: bytes, body: bytes
) -> None:
    (answer,) = exchange(live, post(body, header, length=False))
    assert statuses(answer) == [408]


def test_two_ways_to_find_the_end(patient: LiveServer) -> None:
    """Each is right by itself; a proxy might go by the other one."""
    body = CHUNK + b"0\r\n\r\n"
    headers = [b"content-length: %d" % len(body), CHUNKED]
    both_ways = [post(body, *headers, length=False), post(body, *headers[::-1], length=False)]
    for answer in exchange(patient, *both_ways):
        assert_refused(answer)
        assert 408 not in statuses(answer)


@pytest.mark.parametrize(
    "header",
    [
        b": no name",
        b"no colon",
        b" folded: x",
        b"na me: x",
        b"na\0me: x",
        b"x: a\0b",
        b"x: a\rb",
        b"content-length: 9",
        b"x: " + b"y" * 60_000,
        b"\r\n".join(b"x: y" for _ in range(2000)),
    ],
)
def test_odd_headers(patient: LiveServer, header: bytes) -> None:
    for answer in exchange(patient, post(BODY, header)):
        assert_refused(answer)
        assert 408 not in statuses(answer)


@pytest.mark.parametrize(
    "header",
    [
        b"expect: 100-continue",
        b"expect: 200-ok",
        b"upgrade: websocket\r\nconnection: upgrade",
        b"upgrade: h2c\r\nconnection: upgrade, http2-settings\r\nhttp2-settings: AAA",
        b"content-encoding: gzip",
        b"content-type: text/plain",
        b"x: \xff\xfe",
        b"x-request-id: \xff",
        b"host: a\r\nhost: b",
    ],
)
def test_headers_that_somebody_may_mean(patient: LiveServer, header: bytes) -> None:
    """Good requests and bad ones; neither is taken for something that went wrong here."""
    good, bad = exchange(patient, post(BODY, header), post(b'{"prompt": 1}', header))
    assert good
    assert_harmless(good)
    assert bad
    assert_refused(bad)
    assert statuses(exchange(patient, GOOD)[0]) == [200]


def test_trailers_that_would_matter_as_headers(patient: LiveServer) -> None:
    trailers = b"content-type: text/plain\r\nauthorization: Bearer x\r\nexpect: 200-ok\r\n"
    (answer,) = exchange(
        patient, post(CHUNK + b"0\r\n" + trailers + b"\r\n", CHUNKED, length=False)
    )
    assert statuses(answer) == [200]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"prompt": ' + b"[" * 60_000 + b"]" * 4000 + b"}",
        b"\xff\xfe{\0}\0",
        b'{"prompt": "\xc3"}',
        b'{"prompt": "\xed\xa0\x80"}',
        b'\xef\xbb\xbf{"prompt": "hi"}',
        b'{"prompt": "a\0b"}',
        b'{"prompt": "hi"}\0',
        b'{"prompt": "hi"}{"prompt": "hi"}',
        b'{"prompt": "hi", "prompt": "hi"}',
        b'{"prompt": "hi", "seed": ' + b"9" * 60_000 + b"}",
        b'{"prompt": "hi", "seed": -' + b"9" * 5000 + b"}",
        b'{"prompt": "hi", "temperature": 1e99999}',
        b'{"prompt": "hi", "temperature": 0.' + b"9" * 60_000 + b"e309}",
        b'{"prompt": "hi", "temperature": NaN}',
        b'{"prompt": "hi", "temperature": -Infinity}',
        b'{"prompt": "hi", "top_p": nan}',
        b'{"prompt": "hi", "\\ud800": 1}',
        b'{"prompt": "\\ud800"}',
        b'{"token_ids": [' + b"1," * 30_000 + b"-1]}",
        b'{"token_ids": [1e3]}',
        b'{"token_ids": [true]}',
        json.dumps({"prompt": "hi"} | dict.fromkeys(map(str, range(900)), 0)).encode(),
        json.dumps(dict.fromkeys(map(str, range(5000)), 0)).encode(),
        b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'c'>]>",
        b"prompt=hi&max_tokens=1",
        b"null",
        b'"hi"',
        b"[]",
    ],
)
def test_odd_bodies(patient: LiveServer, body: bytes) -> None:
    for answer in exchange(patient, post(body), post(body, b"expect: 100-continue")):
        assert_refused(answer)
        assert 408 not in statuses(answer)  # it was read to its end


VALUES: list[Any] = [
    float("nan"), float("inf"), -float("inf"), 1e308, -1e308, 5e-324, -0.0, 0.5, -0.5,
    0, -1, 1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63), 10**4000,
    True, False, None, "", "\0", "\ud800", "x" * 10_000, "NaN", "1", [], [[]], [None], [""],
    ["x"] * 5000, [2**40], [-1], {}, {"a": {}}, {"0": 1},
]  # fmt: skip


@pytest.mark.parametrize("field", GenerateRequest.model_fields)
def test_odd_values_of_every_field(patient: LiveServer, field: str) -> None:
    bodies = [
        json.dumps({"prompt": "hi", "max_tokens": 4, field: value}).encode() for value in VALUES
    ]
    for answer in exchange(patient, *map(post, bodies)):
        if field == "timeout" and 504 in statuses(answer):
            continue  # it was asked for, and is documented
        assert_harmless(answer)
        assert 408 not in statuses(answer)


@pytest.mark.parametrize(
    "target",
    [
        b"*",
        b"http://elsewhere/generate",
        b"http://elsewhere",
        b"//elsewhere/generate",
        b"/../../etc/passwd",
        b"/%2e%2e/%2e%2e/etc/passwd",
        b"/%00",
        b"/%",
        b"/%zz",
        b"/%ff%fe",
        b"/\xff",
        b"/generate\0",
        b"/generate#part",
        b"/sessions/%00",
        b"/sessions/ses-" + b"0" * 32,
        b"/sessions/" + b"%F0" * 50,
        b"/sessions?limit=1e9",
        b"/sessions?limit=-1",
        b"/sessions?limit=" + b"9" * 4000,
        b"/sessions?limit=1&limit=2&limit=x",
        b"/sessions?after=%00%ff",
        b"/sessions?unknown=1",
        b"/" + b"a" * 100_000,
        b"/?" + b"&" * 60_000,
        b"?",
        b"generate",
        b"elsewhere:443",
        b"",
        b"/ HTTP/1.1 HTTP/1.1",
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"POST", b"DELETE"])
def test_odd_targets(live: LiveServer, method: bytes, target: bytes) -> None:
    request = b"%s %s HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n" % (method, target)
    for answer in exchange(live, request):
        # One page of all sessions is a fair answer to a few of these, and so is making one.
        (assert_harmless if target.startswith(b"/sessions?") else assert_refused)(answer)


@pytest.mark.parametrize(
    "method",
    [
        b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH", b"PUT", b"DELETE", b"HEAD", b"PROPFIND",
        b"M-SEARCH", b"get", b"G\0T", b"\xff", b"X" * 10_000, b"", b"GET\t",
    ],
)  # fmt: skip
@pytest.mark.parametrize("target", [b"/generate", b"test:443", b"*"])
def test_odd_methods(live: LiveServer, method: bytes, target: bytes) -> None:
    request = b"%s %s HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n" % (method, target)
    for answer in exchange(live, request):
        assert_refused(answer)


@pytest.mark.parametrize(
    "greeting",
    [
        b"GET /\r\n\r\n",
        b"GET / HTTP/0.9\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1.1\r\n\r\n",
        b"GET / ICE/1.0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(500),
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.1\r\n\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"EHLO test\r\n",
    ],
)
def test_other_protocols(live: LiveServer, greeting: bytes) -> None:
    for answer in exchange(live, greeting):
        assert_refused(answer)


def test_pipelines(patient: LiveServer) -> None:
    kept = GOOD.replace(b"connection: close\r\n", b"")
    bad = kept.replace(b'{"prompt": "hi"}', b'{"prompt": 12345}'[: len(b'{"prompt": "hi"}')])
    answers = exchange(
        patient,
        kept * 20 + GOOD,
        bad * 20 + GOOD,
        kept + b"nonsense\r\n\r\n",
        b"\r\n\r\n\r\n" + GOOD,
        GOOD + b"nonsense",
        b"GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n" * 500 + GOOD,
    )
    assert statuses(answers[0]) == [200] * 21
    assert statuses(answers[1]) == [400] * 20 + [200]
    assert statuses(answers[3]) == [200]
    assert statuses(answers[5]) == [404] * 500 + [200]
    for answer in answers:
        assert_harmless(answer)


def test_snapshots_of_noise(patient: LiveServer) -> None:
    noise = random.Random(1)
    path = "/sessions/ses-" + "0" * 32 + "/snapshot"
    bodies = [b"", b"\0" * 8, b"\xff" * 8, (2**63).to_bytes(8, "little") + b"{}"]
    bodies += [noise.randbytes(noise.randrange(1, 5000)) for _ in range(50)]
    with patient.client(headers={"content-type": "application/octet-stream"}) as client:
        for body in bodies:
            assert client.put(path, content=body).status_code == 422
