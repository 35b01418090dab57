import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.server.admin_client import KEYS

ROOT = Path(__file__).parents[2]


@contextmanager
def served(**settings: str) -> Iterator[str]:
    """Address of `uvicorn server.app:app`, started in the repository."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CAUSALRN_")} | settings
    command = [sys.executable, "-m", "uvicorn", "server.app:app", "--port", "0"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
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
            yield found[1]
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            rest.join()
            assert process.returncode in (0, -signal.SIGTERM)
        finally:
            process.kill()


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """A server with nothing configured."""
    with served() as url:
        yield url


@pytest.fixture(scope="session")
def two_models_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of two models, whose administrator has a key; see `admin_client`."""
    store = tmp_path_factory.mktemp("two-models") / "sessions.db"
    with served(
        CAUSALRN_CHECKPOINT=os.pathsep.join(
            str(ROOT / "checkpoints" / name) for name in ("copy-bytes", "copy-az")
        ),
        CAUSALRN_API_KEYS=KEYS,
        CAUSALRN_SESSION_STORE=str(store),
    ) as url:
        yield url


@pytest.fixture(scope="session")
def recalling_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of the model that recalls."""
    store = tmp_path_factory.mktemp("recalling") / "sessions.db"
    with served(
        CAUSALRN_CHECKPOINT=str(ROOT / "checkpoints" / "recall-bytes"),
        CAUSALRN_SESSION_STORE=str(store),
    ) as url:
        yield url
