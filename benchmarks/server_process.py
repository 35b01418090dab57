"""A server in a process of its own, on a free port of this machine, for the length of a block."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [
    sys.executable, "-m", "uvicorn", "server.app:app", "--host", "127.0.0.1", "--port", "0"
]  # fmt: skip
"""Serves on a free port of this machine."""

_START_SECONDS = 300.0  # kernels may have to be compiled first
_STOP_SECONDS = 15.0


@dataclass(frozen=True)
class ServerProcess:
    """A running server.

    Attributes:
        url: `http://host:port`.
        pid: of its process.
    """

    url: str
    pid: int


@contextmanager
def causalrn_server(settings: dict[str, Any]) -> Iterator[ServerProcess]:
    """Serve `server.app:app` while the block runs.

    Args:
        settings: by the names of `causalrn.server.settings.Settings`; without `session_store`,
            sessions last as long as the block.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(COMMAND, environment({"session_store": f"{folder}/sessions.db"} | settings)) as one,
    ):
        wait_until_ready(one)
        yield one


def environment(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings as environment variables."""
    return {f"CAUSALRN_{name.upper()}": str(value) for name, value in settings.items()}


@contextmanager
def serving(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[ServerProcess]:
    """Run a server while the block runs; it must announce its address on standard error.

    Args:
        command: starts the server.
        environment: variables in addition to those of this process.

    Raises:
        RuntimeError: the server did not start. The message holds what it wrote.
    """
    with tempfile.TemporaryFile() as log:  # a pipe that nobody reads would hold it up
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
        try:
            yield ServerProcess(_wait_for_address(process, log.fileno()), process.pid)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_ready(server: ServerProcess) -> None:
    """Wait until a server of ours, which may be of an older version, takes requests."""
    deadline = time.monotonic() + _START_SECONDS
    while httpx.get(f"{server.url}/health/ready").status_code != httpx.codes.OK:
        if time.monotonic() > deadline:
            raise RuntimeError("the server did not get ready")
        time.sleep(0.05)


def _wait_for_address(process: subprocess.Popen[bytes], log: int) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        written = os.pread(log, os.fstat(log).st_size, 0).decode(errors="replace")
        if found := re.search(r"(?:running|listening) on (http://\S+)", written):
            return found[1]
        if ended:
            break
        time.sleep(0.05)
    raise RuntimeError(f"the server did not start:\n{written}")
