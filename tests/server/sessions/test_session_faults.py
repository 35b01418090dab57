"""Sessions on real servers, when stores and servers fail."""

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from model.state import RaggedBatch
from tests.server.conftest import Gate, make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer, serve
from tests.server.session_client import SessionClient, error_type
from tests.server.sessions.store.postgres_server import PostgresServer, postgres_server

ROOT = Path(__file__).resolve().parents[3]
EOS = 258
TEXT = "a text that takes its time"


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(autouse=True)
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """For servers in this process; as for those in others."""
    for module in ("server.app", "server.sessions.upkeep"):
        monkeypatch.setattr(f"{module}.LEASE_SECONDS", 3.0)


def copied(text: str) -> list[int]:
    return [256, *text.encode(), 257, *text.encode(), EOS]


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
        self._reader = threading.Thread(target=self._read, args=(process.stderr,))
        self._reader.start()

    def _read(self, lines: Iterator[str]) -> None:
        self.log_lines += lines

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(15)
        self._reader.join(15)
        assert not any("Traceback" in line for line in self.log_lines), self.log_lines
        return status


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
            yield Process(child, client)
        finally:
            child.kill()


def wait_until(holds: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def thread(store: str) -> Iterator[tuple[LiveServer, SessionClient]]:
    """A server in a thread, for faults that need no process."""
    settings = make_settings(session_store=store)
    with serve(FakeModel(), settings) as live, live.client() as client:
        yield live, SessionClient(client)


def assert_unavailable(api: SessionClient, id: str) -> None:
    """Whatever needs the store is refused in the same way, and nothing else is."""
    calls = [
        api.http.post("/sessions"),
        api.http.post(f"/sessions/{id}/fork"),
        api.http.delete(f"/sessions/{id}"),
        api.post(id, "hello"),
        api.post(id, "hello", stream=True, wait_for_session=True),
    ]
    for response in calls:
        assert error_type(response, 503) == "session_store_unavailable"
        assert int(response.headers["retry-after"]) > 0
        assert len(response.json()["error"]["message"]) > 20
    assert_served(api)


def assert_served(api: SessionClient) -> None:
    """Requests without a session do not notice."""
    assert api.post(None, "hello").json()["text"] == "hello"
    for path in ("/health/ready", "/info", "/metrics"):
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


# Files.


@pytest.mark.parametrize("kind", ["text", "folder", "other database", "newer"])
def test_a_file_that_is_not_ours_is_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "sessions.db"
    if kind == "text":
        path.write_text("not a database\n" * 100)
    elif kind == "folder":
        path.mkdir()
    else:
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE a (b)")
            if kind == "newer":
                database.execute(f"PRAGMA application_id = {0x43524E53}")
                database.execute("PRAGMA user_version = 99")
        database.close()
    before = path.read_bytes() if path.is_file() else None
    with thread(str(path)) as (_, api):
        id = "ses-" + "0" * 32
        assert_unavailable(api, id)
        for response in (api.http.get("/sessions"), api.http.get(f"/sessions/{id}")):
            assert error_type(response, 503) == "session_store_unavailable"
        assert (path.read_bytes() if path.is_file() else None) == before
    # Once it is out of the way, sessions work.
    path.rename(tmp_path / "away")
    with thread(str(path)) as (_, api):
        id = api.create()
        assert works(api, id)


def test_a_damaged_file_is_told_and_works_again_when_it_is_put_back(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with thread(str(path)) as (_, api):
        ids = [api.create() for _ in range(3)]
        for id in ids:
            api.turn(id, "x" * 300)
    good = path.read_bytes()
    path.write_bytes(good[:100] + bytes([0x5A]) * (len(good) - 100))
    with thread(str(path)) as (_, api):
        response = api.http.get(f"/sessions/{ids[0]}")
        assert error_type(response, 503) == "session_store_unavailable"
        assert "damaged" in response.json()["error"]["message"]
        assert_unavailable(api, ids[0])
    path.write_bytes(good)
    with thread(str(path)) as (_, api):
        for id in ids:
            assert api.log(id) == copied("x" * 300)
            assert works(api, id)


def test_a_second_server_on_the_same_file_has_to_wait(tmp_path: Path) -> None:
    path = str(tmp_path / "sessions.db")
    with process(path) as first:
        id = first.create()
        first.turn(id, "hello")
        with thread(path) as (_, second):
            assert_unavailable(second, id)
            refused = second.http.post("/sessions").json()["error"]["message"]
            assert "another server" in refused or "in use" in refused, refused
            assert works(first, id)
            assert first.end() == -signal.SIGTERM
            wait_until(lambda: works(second, id))
            assert second.log(id) == copied("hello") + copied("again") * 2


def test_a_full_disk(tmp_path: Path) -> None:
    with process(str(tmp_path / "sessions.db")) as api:
        ids = [api.create() for _ in range(3)]
        logs: dict[str, list[int]] = {id: [] for id in ids}
        for id in ids:
            api.turn(id, "hello")
            logs[id] += copied("hello")
        largest = max(file.stat().st_size for file in tmp_path.iterdir())
        pid, unlimited = api.process.pid, resource.RLIM_INFINITY
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (largest, unlimited))
        refused = False
        for i in range(200):
            id = ids[i % 3]
            response = api.post(id, "world", wait_for_session=True, timeout=5)
            if response.status_code != 200:
                assert error_type(response, 503) == "session_store_unavailable"
                refused = True
                break
            logs[id] += copied("world")
        assert refused
        assert_unavailable(api, ids[0])
        # What is there can be looked at.
        for id in ids:
            got = api.log(id)
            assert got[: len(logs[id])] == logs[id]
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))
        for id in ids:
            wait_until(lambda: works(api, id))  # noqa: B023
            assert api.log(id)[: len(logs[id])] == logs[id]
        api.turn(api.create(), "hello")
        assert api.end() == -signal.SIGTERM


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(0o555)
    # Root may write everywhere, unless it gives that up.
    powerless = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    with process(str(folder / "sessions.db"), *powerless * (os.getuid() == 0)) as api:
        assert_unavailable(api, "ses-" + "0" * 32)
        folder.chmod(0o755)
        assert works(api, api.create())
        assert api.end() == -signal.SIGTERM


# PostgreSQL.


def test_postgres_stops_and_starts_again(postgres: PostgresServer) -> None:
    with thread(postgres.new_place()) as (_, api):
        id = api.create()
        api.turn(id, "hello")
        postgres.stop()
        try:
            assert_unavailable(api, id)
            refused = api.http.get(f"/sessions/{id}")
            assert error_type(refused, 503) == "session_store_unavailable"
            assert "fish" not in refused.text  # of the password
        finally:
            postgres.start()
        wait_until(lambda: works(api, id))
        log = api.log(id)
        assert log[:13] == copied("hello")
        assert log[-13:] == copied("again")


def test_a_server_starts_though_postgres_is_not_there(tmp_path: Path) -> None:
    with thread(f"postgresql://somebody:secret@/nowhere?host={tmp_path}") as (_, api):
        assert_unavailable(api, "ses-" + "0" * 32)
        assert "secret" not in api.http.post("/sessions").text


def test_postgres_stops_in_mid_turn(postgres: PostgresServer, gate: Gate) -> None:
    with thread(postgres.new_place()) as (live, api):
        id = api.create()
        n_steps = 0

        def take_time(batch: RaggedBatch) -> None:
            """There is something to commit when it stops, however long it takes to."""
            nonlocal n_steps
            n_steps += 1
            time.sleep(0.01)
            if n_steps == 60:
                gate(batch)

        live.model.decoder.before_extend = take_time
        text = TEXT * 4
        got = ""
        with api.stream(id, text) as stream:
            got += next(stream)["text"]
            postgres.stop()
            gate.open()
            try:
                for event in stream:
                    if "error" in event:
                        assert event["error"]["type"] == "session_store_unavailable"
                        break
                    got += event["text"]
                else:
                    pytest.fail("the turn did not end with an error")
                assert_served(api)
            finally:
                postgres.start()
        live.model.decoder.before_extend = lambda _: None
        wait_until(lambda: is_free(api, id), 40)
        kept = bytes(api.log(id)[len(text) + 2 :])
        assert kept.startswith(got.encode())
        assert text.encode().startswith(kept)
        assert works(api, id)


def is_free(api: SessionClient, id: str) -> bool:
    response = api.http.get(f"/sessions/{id}")
    return response.status_code == 200 and not response.json()["busy"]


TURNS = ["one turn", "another turn, which is longer", "x" * 40, "the last"]


def test_a_session_moves_from_server_to_server(postgres: PostgresServer) -> None:
    place = postgres.new_place()
    with thread(place) as (_, first), thread(place) as (_, second):
        alone, moving = first.create(), first.create()
        for i, text in enumerate(TURNS * 2):
            wanted = first.turn(alone, text)
            found = (first, second)[i % 2].turn(moving, text)
            assert found["token_ids"] == wanted["token_ids"]
            assert found["usage"]["prompt_tokens"] == wanted["usage"]["prompt_tokens"]
            assert second.get(moving)["n_tokens"] == found["session"]["n_tokens"]
        assert second.log(moving) == first.log(alone)
        # What the first has in memory is old, and of no use to a snapshot or to a fork.
        second.turn(moving, "news")
        child = first.fork(moving)
        assert first.turn(child, "hello")["text"] == "hello"
        assert first.log(child) == second.log(moving) + copied("hello")
        other = second.restore("ses-" + "1" * 32, first.save(moving)).json()
        assert other["n_tokens"] == len(first.log(moving))
        second.delete(moving)
        assert error_type(first.post(moving, "hello"), 404) == "session_not_found"


def test_two_servers_at_once(postgres: PostgresServer) -> None:
    place = postgres.new_place()
    with ExitStack() as stack:
        servers = [stack.enter_context(thread(place)) for _ in range(2)]
        pool = stack.enter_context(ThreadPoolExecutor(8))
        for live, _ in servers:
            live.model.decoder.before_extend = lambda _: time.sleep(0.005)
        id = servers[0][1].create()
        told = [
            pool.submit(servers[i % 2][1].post, id, f"text {i} " * 4) for i in range(6)
        ]  # fmt: skip
        answers = [future.result(30) for future in told]
        won = [one.json()["text"] for one in answers if one.status_code == 200]
        assert won
        for one in answers:
            assert one.status_code == 200 or error_type(one, 409) == "session_busy"
        waited = [
            pool.submit(servers[i % 2][1].turn, id, f"next {i}", wait_for_session=True)
            for i in range(6)
        ]
        assert [one.result(30)["text"] for one in waited] == [f"next {i}" for i in range(6)]
        log = servers[1][1].log(id)
        # One whole turn after the other.
        assert log.count(256) == len(won) + 6
        texts = [bytes(part[: part.index(257)]).decode() for part in split(log, 256)]
        assert sorted(texts) == sorted(won + [f"next {i}" for i in range(6)])
        assert log == [token_id for text in texts for token_id in copied(text)]


def test_a_session_that_another_server_took_in_mid_turn(
    postgres: PostgresServer, gate: Gate
) -> None:
    place = postgres.new_place()
    schema = place.rpartition("%3D")[2]
    with thread(place) as (live, first), thread(place) as (_, second):
        id = first.create()
        n_steps = 0

        def hold_the_fourth(batch: RaggedBatch) -> None:
            nonlocal n_steps
            n_steps += 1
            if n_steps == 4:
                gate(batch)

        live.model.decoder.before_extend = hold_the_fourth
        with first.stream(id, TEXT) as stream:
            got = next(stream)["text"]
            assert gate.reached.wait(10)
            while True:  # as if the first had been away for longer than its lease
                postgres.execute(f"UPDATE {schema}.causalrn_sessions SET lease_until = 0")
                taken = second.post(id, "taken")
                if taken.status_code == 200:
                    break
                assert error_type(taken, 409) == "session_busy"
            gate.open()
            *more, last = stream
        assert last["error"]["type"] == "session_taken"
        kept = (got + "".join(event["text"] for event in more)).encode()
        assert first.log(id) == [256, *TEXT.encode(), 257, *kept, *copied("taken")]
        assert first.turn(id, "back", wait_for_session=True)["text"] == "back"


def split(log: list[int], at: int) -> list[list[int]]:
    parts: list[list[int]] = []
    for token_id in log:
        if token_id == at:
            parts.append([])
        else:
            parts[-1].append(token_id)
    return parts


# Ends.


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_server_that_is_killed_in_mid_turn(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    store = str(tmp_path / "sessions.db")
    if kind == "postgres":
        store = request.getfixturevalue("postgres").new_place()
    with process(store, step_seconds=0.1) as first:
        id = first.create()
        first.turn(id, "hello")
        with thread_if(kind == "postgres", store) as second, first.stream(id, TEXT) as stream:
            got = next(stream)["text"] + next(stream)["text"]
            if second is not None:
                assert second.get(id)["busy"]
                assert error_type(second.post(id, "hello"), 409) == "session_busy"
            first.process.kill()
            first.process.wait(15)
            with pytest.raises(httpx.RemoteProtocolError):
                list(stream)
            with thread_if(second is None, store) as third:
                goes_on(second or third, id, got)


@contextmanager
def thread_if(wanted: bool, store: str) -> Iterator[SessionClient | None]:
    if not wanted:
        yield None
        return
    with thread(store) as (_, api):
        yield api


def goes_on(api: SessionClient | None, id: str, got: str) -> None:
    """What was sent is in the log, and the session is free again."""
    assert api is not None
    answer = api.turn(id, "", mode="raw", wait_for_session=True, timeout=15, max_tokens=100)
    log = api.log(id)
    assert log == copied("hello") + copied(TEXT)
    kept = TEXT[: len(TEXT) - len(answer["text"])]
    assert kept + answer["text"] == TEXT
    assert kept.startswith(got)


def test_a_server_that_ends_in_mid_turn_gives_its_sessions_back(tmp_path: Path) -> None:
    store = str(tmp_path / "sessions.db")
    with process(store, step_seconds=0.1) as first:
        id = first.create()
        first.turn(id, "hello")
        events: list[Any] = []
        with first.stream(id, TEXT * 3) as stream:
            events.append(next(stream))
            first.process.send_signal(signal.SIGTERM)
            events += stream
        assert events[-1]["error"]["type"] == "shutting_down"
        got = "".join(event["text"] for event in events[:-1])
        assert first.process.wait(15) == -signal.SIGTERM
    with thread(store) as (_, api):
        log = api.log(id)
        kept = bytes(log[13 + len(TEXT) * 3 + 2 :]).decode()
        assert (TEXT * 3).startswith(kept)
        assert kept.startswith(got)
        assert not api.get(id)["busy"]
        rest = api.turn(id, "", mode="raw", max_tokens=200)["text"]
        assert kept + rest == TEXT * 3
