"""The server as `make serve` starts it, in a process of its own."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.server.live_server import wait_until_ready

ROOT = Path(__file__).parents[2]


UVICORN = (sys.executable, "-m", "uvicorn", "server.app:app")


@contextmanager
def served(**settings: str) -> Iterator[str]:
    """Address of `uvicorn server.app:app`, started in the repository."""
    with serving(UVICORN, ROOT, **settings) as url:
        yield url


@contextmanager
def serving(command: Sequence[str], folder: Path, **settings: str) -> Iterator[str]:
    """Address of a server that a command starts in a folder."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CAUSALRN_")} | settings
    command = [*command, "--port", "0"]
    with subprocess.Popen(
        command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        seen = []
        try:
            for line in process.stderr:
                seen.append(line)
                if found := re.search(r"running on (http://\S+)", line):
                    break
            else:
                raise AssertionError("the server did not start:\n" + "".join(seen))
            rest = threading.Thread(target=process.stderr.read)  # a full pipe would hold it up
            rest.start()
            try:
                wait_until_ready(found[1])
                yield found[1]
                process.send_signal(signal.SIGTERM)
                assert process.wait(30) in (0, -signal.SIGTERM)
            finally:
                process.kill()
                rest.join()  # before the pipe is closed under it
        finally:
            process.kill()
