"""SIGTERM and SIGINT, on a real process."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.live_server import wait_until_ready

ROOT = Path(__file__).resolve().parents[2]


class Process:
    """A uvicorn of its own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.log = ""
        while "Uvicorn running" not in self.log:
            line = self.line()
            assert line, self.log
        match = re.search(r"http://127\.0\.0\.1:\d+", self.log)
        assert match is not None
        self.url = match[0]
        wait_until_ready(self.url)

    def line(self) -> str:
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        self.log += line
        return line

    def signal_and_wait_for_notice(self, number: int) -> None:
        self.process.send_signal(number)
        while "shutting down: running requests have" not in self.log:
            assert self.line(), self.log

    def end(self, seconds: float = 15) -> int:
        """Wait for the end and return the exit status."""
        _, rest = self.process.communicate(timeout=seconds)
        self.log += rest
        assert "Traceback" not in self.log, self.log
        return self.process.returncode


@contextmanager
def process(*, step_seconds: float, drain_seconds: float) -> Iterator[Process]:
    environment = os.environ | {
        "STEP_SECONDS": str(step_seconds),
        "DRAIN_SECONDS": str(drain_seconds),
    }
    command = [sys.executable, "-m", "uvicorn", "tests.server.slow_app:app", "--port", "0"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            yield Process(child)
        finally:
            child.kill()


def chunks(lines: Iterator[str]) -> Iterator[Any]:
    for line in lines:
        if line:
            data = line.removeprefix("data: ")
            yield data if data == "[DONE]" else json.loads(data)


def test_running_requests_finish_and_new_ones_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = tmp_path / "hold"
    monkeypatch.setenv("HOLD_FILE", str(hold))
    with (
        process(step_seconds=0.02, drain_seconds=30) as server,
        httpx.Client(base_url=server.url, timeout=20) as client,
        client.stream("POST", "/generate", json={"prompt": "x" * 60, "stream": True}) as response,
    ):
        stream = chunks(response.iter_lines())
        assert next(stream)["text"] == "x" * 10_000
        hold.touch()  # so that it runs until all is looked at
        server.signal_and_wait_for_notice(signal.SIGTERM)
        for path in ("/health", "/health/ready"):
            ready = client.get(path)
            assert ready.status_code == 503
            assert ready.json()["error"]["type"] == "shutting_down"
        assert client.get("/health/live").status_code == 200
        refused = client.post("/generate", json={"prompt": "hello"})
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 1
        hold.unlink()
        *rest, last, done = stream
        assert len(rest) >= 1
        assert (last["finish_reason"], done) == ("stop", "[DONE]")
        assert last["usage"]["completion_tokens"] == 60
        assert server.end() == -signal.SIGTERM


def test_what_is_not_finished_by_the_deadline_gets_an_error_event() -> None:
    with (
        process(step_seconds=0.02, drain_seconds=0.2) as server,
        httpx.Client(base_url=server.url, timeout=20) as client,
        client.stream("POST", "/generate", json={"prompt": "x" * 1000, "stream": True}) as response,
    ):
        stream = chunks(response.iter_lines())
        next(stream)
        server.process.send_signal(signal.SIGTERM)
        *_, last = stream
        assert last["error"]["type"] == "shutting_down"
        assert server.end() == -signal.SIGTERM


def test_a_second_signal_ends_at_once() -> None:
    with (
        process(step_seconds=0.02, drain_seconds=600) as server,
        httpx.Client(base_url=server.url, timeout=20) as client,
        client.stream("POST", "/generate", json={"prompt": "x" * 1000, "stream": True}) as response,
    ):
        stream = chunks(response.iter_lines())
        next(stream)
        server.signal_and_wait_for_notice(signal.SIGINT)
        server.process.send_signal(signal.SIGINT)
        *_, last = stream
        assert last["error"]["type"] == "shutting_down"
        assert server.end() in (-signal.SIGTERM, 0)


def test_an_idle_server_ends_at_once() -> None:
    with process(step_seconds=0, drain_seconds=600) as server:
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == -signal.SIGTERM


def test_a_client_that_does_not_read_cannot_keep_the_server() -> None:
    body = b'{"prompt": "%s", "stream": true}' % (b"x" * 1000)
    with (
        process(step_seconds=0, drain_seconds=0.2) as server,
        httpx.Client(base_url=server.url, timeout=20) as client,
        socket.socket() as stalled,
    ):
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.connect(("127.0.0.1", client.base_url.port))
        stalled.sendall(
            b"POST /generate HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%s" % (len(body), body)
        )
        assert stalled.recv(12) == b"HTTP/1.1 200"
        while client.get("/health/ready").json()["running"]:
            time.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == -signal.SIGTERM
    # It did wait, in vain.
    assert "Waiting for connections to close" in server.log
