"""A server that starts, on a real process: what it answers meanwhile, and how it ends."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.programs import find

ROOT = Path(__file__).resolve().parents[2]
SMALL = ROOT / "checkpoints" / "copy-az"
UVICORN = (sys.executable, "-m", "uvicorn", "server.app:app", "--port", "0")
FAILING = """
import uvicorn
from causalrn.server.application import create_app
uvicorn.run(create_app(load=lambda _: 1 / 0), port=0)
"""


@contextmanager
def starting(
    before: tuple[str, ...] = (), folder: Path = ROOT, **environment: str
) -> Iterator[tuple[httpx.Client, "subprocess.Popen[str]"]]:
    """A server that listens, and a client for it."""
    with subprocess.Popen(
        [*before, *UVICORN],
        cwd=folder,
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            log = ""
            while (found := re.search(r"running on (http://\S+)", log)) is None:
                line = process.stderr.readline()
                assert line, log
                log += line
            with httpx.Client(base_url=found[1], timeout=20) as client:
                yield client, process
        finally:
            process.kill()


def children(pid: int) -> set[int]:
    """The processes that a process has started and that have not ended."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return {int(child) for file in files for child in file.read_text().split()}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_compiles_says_so_and_obeys_signals(
    tmp_path: Path, number: signal.Signals
) -> None:
    with starting(NUMBA_CACHE_DIR=str(tmp_path)) as (client, process):
        while "compiling kernels, once, about" not in client.get("/health/ready").text:
            time.sleep(0.05)
        compiling = children(process.pid)
        assert client.get("/health/live").json() == {"status": "live"}
        for path in ("/health/ready", "/health", "/generate", "/metrics", "/nowhere"):
            refused = client.get(path)
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) > 0
            assert refused.headers["x-request-id"]
            assert refused.json()["error"]["type"] == "starting"
        assert client.get("/v1/models").json()["error"]["code"] == "starting"
        began = time.monotonic()
        process.send_signal(number)
        _, log = process.communicate(timeout=60)
        # The compiler takes most of a minute here, and cannot be interrupted.
        assert process.returncode == -number
        assert time.monotonic() - began < 20
        while any(Path(f"/proc/{pid}").exists() for pid in compiling):
            assert time.monotonic() - began < 40
            time.sleep(0.05)
    assert "INFO causalrn.server.start: compiling kernels, once, about" in log
    assert "Traceback" not in log


def test_a_server_that_lacks_kernels_serves_without_those_that_can_wait(tmp_path: Path) -> None:
    text = "serve" * 20
    answers = []
    for _ in range(2):
        kept = str(tmp_path)
        with starting(NUMBA_CACHE_DIR=kept, CAUSALRN_CHECKPOINT=str(SMALL)) as (client, process):
            deadline = time.monotonic() + 250
            while client.get("/health/ready").status_code != httpx.codes.OK:
                assert time.monotonic() < deadline
                time.sleep(0.5)  # each time there is a line in the log, which nobody reads yet
            request = {"prompt": text, "max_tokens": 200}
            answers.append(client.post("/generate", json=request).raise_for_status().json())
            while children(process.pid):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            process.terminate()
            _, log = process.communicate(timeout=60)
        assert ("until they are there, one computes" in log) == (len(answers) == 1)
        assert "WARNING causalrn.model." not in log
    assert answers[0]["text"] == answers[1]["text"] == text


def failed(*command: str, **environment: str) -> str:
    """What a server writes that cannot start, and so ends with the status of a failed start."""
    process = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 3, process.stderr
    return process.stderr


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("CHECKPOINT", "/nowhere/at-all", "/nowhere/at-all: no such folder; .* Set CAUSALRN_CHECK"),
        ("POOL_BYTES", "500", "CAUSALRN_POOL_BYTES"),
    ],
)
def test_a_start_that_fails_ends_with_one_clear_line(name: str, value: str, advice: str) -> None:
    log = failed(*UVICORN, **{f"CAUSALRN_{name}": value})
    (line,) = [line for line in log.splitlines() if "ERROR" in line]
    assert re.search(advice, line)
    assert line == log.splitlines()[-1]


def test_a_failure_that_nobody_expected_keeps_its_traceback() -> None:
    log = failed(sys.executable, "-c", FAILING)
    assert "Traceback" in log
    assert "ZeroDivisionError: division by zero" in log


def test_a_port_in_use_is_told_before_a_model_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        log = failed(*UVICORN[:-1], port, CAUSALRN_CHECKPOINT="/nowhere/at-all")
    (line,) = [line for line in log.splitlines() if "ERROR" in line]
    assert "address already in use" in line


@pytest.mark.skipif(find("setpriv") is None or os.geteuid() != 0, reason="needs root and setpriv")
def test_a_user_without_a_home_who_may_write_nothing_can_serve(tmp_path: Path) -> None:
    """It may read everything, as it could in a container."""
    for name in ("causalrn", "model", "server", "checkpoints/exact-bytes"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=ignored)
    privileges = (
        "setpriv", "--reuid=12345", "--regid=12345", "--clear-groups",
        "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
        "env", "--unset=HOME", "--unset=XDG_STATE_HOME",
    )  # fmt: skip
    with starting(privileges, tmp_path) as (client, process):
        again = "compiling kernels, about a minute at every start"
        while again not in (text := client.get("/health/ready").text):
            assert "the server is starting: loading" in text
            time.sleep(0.05)
        assert "NUMBA_CACHE_DIR" in text
        process.terminate()
        _, log = process.communicate(timeout=60)
    assert "Traceback" not in log
    assert log.count(again) == 1


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A control group, whose limit can be set."""
    group = Path("/sys/fs/cgroup/memory", f"causalrn-test-{os.getpid()}")
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        yield group
    finally:
        group.rmdir()


@pytest.mark.parametrize(("mebibytes", "what"), [(300, "serving"), (500, "compiling kernels")])
def test_too_little_memory_is_told_in_one_line(
    memory_group: Path, tmp_path: Path, mebibytes: int, what: str
) -> None:
    (memory_group / "memory.limit_in_bytes").write_text(str(mebibytes * 2**20))
    join = f'echo $$ > {memory_group}/cgroup.procs && exec "$0" "$@"'
    log = failed("sh", "-c", join, *UVICORN, NUMBA_CACHE_DIR=str(tmp_path))
    (line,) = [line for line in log.splitlines() if f"{what} takes" in line]
    assert f"this process may use {mebibytes} MiB: allow its control group more" in line
    assert "Traceback" not in log
