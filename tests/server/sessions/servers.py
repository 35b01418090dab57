"""Servers with sessions, in threads and in processes, for tests in which something fails."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer, serve, wait_until_ready
from tests.server.session_client import SessionClient, error_type

ROOT = Path(__file__).resolve().parents[3]
TEXT = "a text that takes its time"


class Process(SessionClient):
    """A server in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]", client: httpx.Client) -> None:
        super().__init__(client)
        self.process = process
        self.log_lines: list[str] = []
        assert process.stderr is not None
        while "Uvicorn running on " not in (line := process.stderr.readline()):
            assert line, self.log_lines
            self.log_lines.append(line)
        client.base_url = line.split("Uvicorn running on ")[1].split()[0]
        # What it goes on to write is read, so that it never waits for that.
        self._reader = threading.Thread(target=self.log_lines.extend, args=(process.stderr,))
        self._reader.start()

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(15)
        self._reader.join(15)
        assert not any("Traceback" in line for line in self.log_lines), self.log_lines
        return status

    def close(self) -> None:
        """Kill it, and read to the end: its pipe must not be closed under the reader."""
        self.process.kill()
        self._reader.join()


@contextmanager
def process(store: str, *before: str, step_seconds: float = 0.0) -> Iterator[Process]:
    environment = os.environ | {"SESSION_STORE": store, "STEP_SECONDS": str(step_seconds)}
    uvicorn = (sys.executable, "-m", "uvicorn", "tests.server.session_app:app", "--port", "0")
    command = [*before, *uvicorn]
    with (
        httpx.Client(timeout=20) as client,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
        ) as child,
    ):
        try:
            with closing(Process(child, client)) as server:
                wait_until_ready(str(client.base_url))
                yield server
        finally:
            child.kill()


def wait_until(holds: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def thread(store: str) -> Iterator[tuple[LiveServer, SessionClient]]:
    """A server in a thread, with short leases, for faults that need no process."""
    settings = make_settings(session_store=store)
    with pytest.MonkeyPatch.context() as patch:
        for module in (
            "causalrn.server.application",
            "causalrn.server.sessions.upkeep",
        ):  # as in `session_app`
            patch.setattr(f"{module}.LEASE_SECONDS", 3.0)
        with serve(FakeModel(), settings) as live, live.client() as client:
            yield live, SessionClient(client)


def assert_unavailable(api: SessionClient, id: str) -> None:
    """Whatever needs the store is refused in the same way, and nothing else is."""
    assert_unwritable(api, id)
    assert error_type(api.http.delete(f"/sessions/{id}"), 503) == "session_store_unavailable"


def assert_unwritable(api: SessionClient, id: str) -> None:
    """The same, but sessions may be deleted."""
    calls = [
        api.http.post("/sessions"),
        api.http.post(f"/sessions/{id}/fork"),
        api.post(id, "hello"),
        api.post(id, "hello", stream=True, wait_for_session=True),
        api.http.get("/health/ready"),
    ]
    for response in calls:
        assert error_type(response, 503) == "session_store_unavailable"
        assert int(response.headers["retry-after"]) > 0
        assert len(response.json()["error"]["message"]) > 20
    assert_served(api)


def assert_served(api: SessionClient) -> None:
    """Requests without a session do not notice."""
    assert api.post(None, "hello").json()["text"] == "hello"
    for path in ("/health/live", "/info", "/metrics"):
        assert api.http.get(path).status_code == 200


def works(api: SessionClient, id: str) -> bool:
    """Whether a turn succeeds; if not, it is refused as it should be."""
    response = api.post(id, "again", wait_for_session=True)
    if response.status_code == 503:
        assert error_type(response, 503) == "session_store_unavailable"
        return False
    assert response.status_code == 200, response.text
    assert response.json()["text"] == "again"
    return True
