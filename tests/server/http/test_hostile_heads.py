"""Odd headers, targets, methods and protocols.

For heads that are too long or come too slowly, see `test_protocol.py`.
"""

import pytest

from tests.server.http.odd_requests import BODY
from tests.server.live_server import LiveServer
from tests.server.raw_http import GOOD, assert_harmless, assert_refused, exchange, post, statuses


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
def test_odd_headers_are_refused(patient: LiveServer, header: bytes) -> None:
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
def test_unusual_headers_do_no_harm(patient: LiveServer, header: bytes) -> None:
    """Good requests and bad ones; neither is taken for something that went wrong here."""
    good, bad = exchange(patient, post(BODY, header), post(b'{"prompt": 1}', header))
    assert good
    assert_harmless(good)
    assert bad
    assert_refused(bad)
    assert statuses(exchange(patient, GOOD)[0]) == [200]


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
def test_odd_targets_are_refused(quick: LiveServer, method: bytes, target: bytes) -> None:
    request = b"%s %s HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n" % (method, target)
    for answer in exchange(quick, request):
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
def test_odd_methods_are_refused(quick: LiveServer, method: bytes, target: bytes) -> None:
    request = b"%s %s HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n" % (method, target)
    for answer in exchange(quick, request):
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
def test_other_protocols_are_refused(quick: LiveServer, greeting: bytes) -> None:
    for answer in exchange(quick, greeting):
        assert_refused(answer)
