"""Real servers whose clock is set, or that stand still for a while."""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from causalrn.server.auth.key_format import new_key
from tests.server.session_client import copied
from tests.server.sessions.servers import Process, process, thread

_LIBRARIES = list(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


class Clock:
    """The clock of a server, which can be set while it runs."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set(0)

    def set(self, seconds: int) -> None:
        """Set it so many seconds forward, from what is right."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self._file)

    @contextmanager
    def server(self, store: Path, *environment: str) -> Iterator[Process]:
        faked = (
            f"LD_PRELOAD={_LIBRARIES[0]}",
            f"FAKETIME_TIMESTAMP_FILE={self._file}",
            "FAKETIME_CACHE_DURATION=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
        )
        with process(str(store), "env", *faked, *environment) as server:
            yield server


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    if not _LIBRARIES:
        pytest.skip("needs libfaketime, of Debian's package `faketime`")
    return Clock(tmp_path)


def test_sessions_outlast_a_clock_that_is_a_week_ahead_for_a_while(
    clock: Clock, tmp_path: Path
) -> None:
    store = tmp_path / "sessions.db"
    with clock.server(store) as server:
        id = server.create()
        server.turn(id, "hello")
        clock.set(8 * 86_400)
        wait_for_date(server, 8 * 86_400)
        time.sleep(0.5)  # as many sweeps as there are in five minutes
        assert server.get(id)["n_tokens"] == 13
        server.turn(id, "world")
        clock.set(0)
        wait_for_date(server, 0)
        assert server.log(id) == copied("hello") + copied("world")
    clock.set(8 * 86_400)
    with clock.server(store) as server:  # one that starts with the wrong clock
        time.sleep(0.5)
    with thread(str(store)) as (_, api):
        assert api.turn(id, "again")["text"] == "again"


def test_quotas_do_not_depend_on_the_clock(clock: Clock, tmp_path: Path) -> None:
    secret, hash = new_key()
    key = {"name": "alice", "hash": hash, "requests_per_minute": 100, "tokens_per_minute": 10_000}
    with clock.server(tmp_path / "sessions.db", f"API_KEYS={json.dumps([key])}") as server:
        server.http.headers["authorization"] = f"Bearer {secret}"
        for ahead in (0, 86_400, 0, -86_400):
            clock.set(ahead)
            wait_for_date(server, ahead)
            answer = server.post(None, "hello")
            assert answer.json()["text"] == "hello"
        for name, most in (("requests", 100), ("tokens", 10_000)):
            left = answer.headers[f"x-ratelimit-remaining-{name}"]
            reset = answer.headers[f"x-ratelimit-reset-{name}"]
            assert 0 < int(left) < most
            assert 0 < float(reset.removesuffix("s")) <= 60


def test_a_server_that_stood_still_goes_on(tmp_path: Path) -> None:
    with process(
        str(tmp_path / "sessions.db"), "env", "STALL_SECONDS=2", step_seconds=0.4
    ) as server:
        id = server.create()
        with server.stream(id, "hello") as stream:
            events = [next(stream)]
            server.process.send_signal(signal.SIGSTOP)
            time.sleep(3)
            server.process.send_signal(signal.SIGCONT)
            assert server.http.get("/health").status_code == 200
            assert server.get(id)["busy"]
            events += stream
        assert events[-1] == "[DONE]"
        assert "".join(event["text"] for event in events[:-1]) == "hello"
        assert server.log(id) == copied("hello")


def wait_for_date(server: Process, ahead: int) -> None:
    """Wait until the server's clock is what it was set to."""
    deadline = time.monotonic() + 20
    while True:
        models = server.http.get("/v1/models")
        date = models.headers["date"]
        seconds = time.mktime(time.strptime(date, "%a, %d %b %Y %H:%M:%S GMT")) - time.timezone
        if abs(seconds - time.time() - ahead) < 60:
            return
        assert time.monotonic() < deadline, date
        time.sleep(0.1)
