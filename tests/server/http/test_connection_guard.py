"""uvicorn speaks our protocol class unless it was told to speak another one, and is set for us."""

import asyncio
import json
import logging
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from causalrn.server.http.connection_guard import KEEP_ALIVE_SECONDS
from causalrn.server.http.protocol import GuardedProtocol
from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import serve, wait_until_ready
from tests.server.raw_http import GOOD, PATIENCE, exchange, read_all, statuses, unharmed

ROOT = Path(__file__).parents[3]
KEPT = GOOD.replace(b"connection: close\r\n", b"")


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


@pytest.mark.parametrize(("given", "seconds"), [(5, KEEP_ALIVE_SECONDS), (20, 20)])
def test_idle_connections_are_kept_for_longer_than_clients_keep_theirs(
    given: int, seconds: int
) -> None:
    """Without the option, uvicorn takes 5."""
    assert KEEP_ALIVE_SECONDS >= 75
    with (
        serve(FakeModel(), make_settings(), timeout_keep_alive=given) as live,
        live.connect() as connection,
    ):
        connection.sendall(KEPT)
        assert connection.recv(12) == b"HTTP/1.1 200"
        live.wait_until(lambda: not live.n_tasks)
        protocols = [p for p in live.protocols if isinstance(p, GuardedProtocol)]
        (timer,) = [p.timeout_keep_alive_task for p in protocols if p.timeout_keep_alive_task]
        left = live.run(_until(timer.when()))
        assert seconds - 20 < left < seconds + 0.001  # sums of seconds are rounded


async def _until(when: float) -> float:
    return when - asyncio.get_running_loop().time()


def test_what_is_beyond_uvicorns_limit_has_the_shape_of_all_errors() -> None:
    with serve(FakeModel(), make_settings(), limit_concurrency=3) as live:
        held = [live.connect() for _ in range(3)]
        try:
            live.wait_until(lambda: live.n_connections == 3)
            large = KEPT.replace(b"content-length: 16", b"content-length: 60000")
            for path, key in ((b"/generate", "type"), (b"/v1/completions", "code")):
                (answer,) = exchange(live, GOOD.replace(b"/generate", path))
                head, _, body = answer.partition(b"\r\n\r\n")
                assert statuses(answer) == [503]
                assert json.loads(body)["error"][key] == "overloaded"
                for header in (b"retry-after: 1", b"x-request-id: ", b"x-frame-options: DENY"):
                    assert b"\r\n" + header in head
            with live.connect() as connection:  # which has not sent all of its body
                connection.sendall(large)
                assert connection.recv(12) == b"HTTP/1.1 503"
                connection.sendall(b" " * (60_000 - 16))
                connection.sendall(GOOD)
                assert statuses(read_all(connection)) == [503]
        finally:
            for connection in held:
                connection.close()


def test_a_process_that_may_open_few_files_answers_every_connection() -> None:
    """Its soft limit is raised; near the hard one requests are refused, and nobody is reset."""
    n_most = 160
    limit = f"ulimit -Sn 60 && ulimit -Hn {n_most}"
    uvicorn = "-m uvicorn tests.server.slow_app:app --port 0"
    command = ["sh", "-c", f"{limit} && exec {sys.executable} {uvicorn}"]
    environment = os.environ | {"STEP_SECONDS": "0", "DRAIN_SECONDS": "0"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        connections: list[socket.socket] = []
        try:
            assert process.stderr is not None
            while (found := re.search(r":(\d+) \(", line := process.stderr.readline())) is None:
                assert line
            wait_until_ready(f"http://127.0.0.1:{found[1]}")
            answers = []
            for _ in range(n_most - 50):  # more than there may be, fewer than there is place for
                connection = socket.create_connection(("127.0.0.1", int(found[1])), 20)
                connections.append(connection)
                connection.sendall(b"GET /health/live HTTP/1.1\r\nhost: test\r\n\r\n")
                answers.append(connection.recv(12))
            assert set(answers) == {b"HTTP/1.1 200", b"HTTP/1.1 503"}
            assert answers.count(b"HTTP/1.1 200") > 60
        finally:
            for connection in connections:
                connection.close()
            process.kill()
