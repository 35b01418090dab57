"""A server in a process of its own, on a free port of this machine, ended when it is done with."""

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

ROOT = Path(__file__).resolve().parents[1]
_START_SECONDS = 300.0  # kernels may have to be compiled first
_STOP_SECONDS = 15.0


@dataclass(frozen=True)
class ServerProcess:
    """A server that runs.

    Attributes:
        url: `http://host:port`.
        pid: of its process.
    """

    url: str
    pid: int


@contextmanager
def causalrn_server(settings: Mapping[str, Any]) -> Iterator[ServerProcess]:
    """Serve `server.app:app` while the block runs.

    Args:
        settings: by the names of `server.settings.Settings`.
    """
    environment = {f"CAUSALRN_{name.upper()}": str(value) for name, value in settings.items()}
    command = [sys.executable, "-m", "uvicorn", "server.app:app", "--host", "127.0.0.1"]
    with serving([*command, "--port", "0"], environment) as server:
        yield server


@contextmanager
def serving(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[ServerProcess]:
    """Run a server that uvicorn announces on standard error, while the block runs.

    Args:
        command: that starts it.
        environment: beside that of this process.

    Raises:
        RuntimeError: it did not start; with what it wrote.
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


def _wait_for_address(process: subprocess.Popen[bytes], log: int) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        written = os.pread(log, os.fstat(log).st_size, 0).decode(errors="replace")
        if found := re.search(r"running on (http://\S+)", written):
            return found[1]
        if ended:
            break
        time.sleep(0.05)
    raise RuntimeError(f"the server did not start:\n{written}")
