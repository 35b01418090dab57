"""uvicorn speaks our protocol class unless it was told to speak another one."""

import logging
import time

import pytest

from server.http.protocol import GuardedProtocol
from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import serve
from tests.server.raw_http import PATIENCE, exchange, read_all, statuses, unharmed


@pytest.mark.parametrize("http", ["auto", "httptools"])
def test_plain_uvicorn_is_guarded(
    http: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(GuardedProtocol, "head_seconds", PATIENCE)
    with serve(FakeModel(), make_settings(), http=http) as live, unharmed(live):
        slow, silent = exchange(live, b"GET /info HTTP/1.1\r\nhost: te", b"")
        assert statuses(slow) == [408]
        assert silent == b""
        (endless,) = exchange(live, b"GET /" + b"a" * 100_000)
        assert statuses(endless) == [431]
    assert "nothing limits" not in caplog.text


def test_another_protocol_is_left_alone_and_the_log_says_what_it_lacks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log is right: nobody minds that this head takes its time."""
    monkeypatch.setattr(GuardedProtocol, "head_seconds", PATIENCE)
    caplog.set_level(logging.WARNING)
    with serve(FakeModel(), make_settings(), http="h11") as live:
        assert "nothing limits the size of a request's head" in caplog.text
        with live.connect() as connection:
            for piece in (b"GE", b"T /info HTT", b"P/1.1\r\nhost: te"):
                connection.sendall(piece)
                time.sleep(PATIENCE)
            connection.sendall(b"st\r\nconnection: close\r\n\r\n")
            assert statuses(read_all(connection)) == [200]
