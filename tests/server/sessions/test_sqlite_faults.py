"""Sessions on real servers whose file, folder or disk fails."""

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from causalrn.server.application import create_app
from tests.programs import program
from tests.server.conftest import make_settings
from tests.server.failed_start import failed_start
from tests.server.fake_model import FakeModel
from tests.server.session_client import SessionClient, copied, error_type
from tests.server.sessions.servers import (
    ROOT,
    assert_unavailable,
    assert_unwritable,
    process,
    thread,
    wait_until,
    works,
)


@pytest.mark.parametrize("kind", ["text", "folder", "other database", "newer"])
def test_a_file_that_is_not_a_store_is_left_alone(tmp_path: Path, kind: str) -> None:
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


def test_a_damaged_file_is_reported_and_works_again_when_it_is_put_back(tmp_path: Path) -> None:
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


def test_a_second_server_on_the_same_file_does_not_start(tmp_path: Path) -> None:
    path = str(tmp_path / "sessions.db")
    with process(path) as first:
        id = first.create()
        second = create_app(make_settings(session_store=path), load=lambda _: FakeModel())
        told = failed_start(second)
        assert f"(pid {first.process.pid}) uses the session store {path}" in told
        assert "without --workers" in told
        assert "\n" not in told
        assert works(first, id)
        assert first.end() == -signal.SIGTERM
    with thread(path) as (_, api):
        assert api.log(id) == copied("again")


def test_two_workers_on_one_file_do_not_start(tmp_path: Path) -> None:
    store = tmp_path / "sessions.db"
    command = (sys.executable, "-m", "uvicorn", "tests.server.session_app:app", "--port", "0")
    done = subprocess.run(
        (*command, "--workers", "2"),
        check=False,
        cwd=ROOT,
        env=os.environ | {"SESSION_STORE": str(store)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    (told,) = [line for line in done.stderr.splitlines() if "uses the session store" in line]
    assert str(store) in told
    assert "Traceback" not in done.stderr


def test_a_full_disk_refuses_turns_and_loses_none(tmp_path: Path) -> None:
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
        assert_unwritable(api, ids[i % 3 - 1])  # not the one whose turn may have failed midway
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


def test_a_disk_that_is_really_full_lets_sessions_be_deleted(tmp_path: Path) -> None:
    mount = ("mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(tmp_path))
    if (
        not shutil.which("mount")
        or subprocess.run(mount, check=False, capture_output=True).returncode
    ):
        pytest.skip("needs the right to mount a small file system, as root has it")
    try:
        with process(str(tmp_path / "sessions.db")) as api:
            ids = [api.create() for _ in range(8)]
            for id in ids:
                api.turn(id, "x" * 400)
            for _ in range(2):  # the reserve is there again after the first
                fill(api, tmp_path / "filler")
                assert error_type(api.http.get("/health/ready"), 503) == "session_store_unavailable"
                api.delete(ids.pop(0))
            for id in ids:
                assert api.log(id)[:1] == [256]
                api.delete(id)
            (tmp_path / "filler").unlink()
            wait_until(lambda: api.http.get("/health/ready").status_code == 200)
            assert works(api, api.create())
            assert api.end() == -signal.SIGTERM
    finally:
        subprocess.run(("umount", "-l", str(tmp_path)), check=True)


def fill(api: SessionClient, path: Path) -> None:
    """Write until the server can write no more."""
    for _ in range(1000):
        with path.open("ab", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)) == 4096:
                pass
        if api.http.post("/sessions").status_code == 503:
            return
    pytest.fail("the disk is never full")


def test_a_folder_that_cannot_be_written_refuses_sessions(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(0o555)
    # Root may write everywhere, unless it gives that up.
    powerless: list[str] = []
    if os.getuid() == 0:
        powerless = [program("setpriv"), "--bounding-set=-all", "--inh-caps=-all"]
    with process(str(folder / "sessions.db"), *powerless) as api:
        assert_unavailable(api, "ses-" + "0" * 32)
        folder.chmod(0o755)
        assert works(api, api.create())
        assert api.end() == -signal.SIGTERM
