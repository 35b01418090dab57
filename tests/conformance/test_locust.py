"""A load of Locust's users, who stream and some of whom leave, and nothing of it stays behind.

Locust replaces sockets and threads by those of gevent; it runs in a process of its own.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import serve

ROOT = Path(__file__).parents[2]
N_USERS = 8
PATHS = ("/generate", "/v1/completions")


def run_locust(url: str, seconds: int) -> dict[tuple[str, str], dict[str, Any]]:
    """Figures by path and kind: POST, TTFT, ITL and E2E. None of them may have a failure."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "locust", "-f", "benchmarks/locustfile.py", "--host", url),
            *("--headless", "--users", str(N_USERS), "--spawn-rate", str(N_USERS)),
            *("--run-time", f"{seconds}s", "--stop-timeout", "30", "--json"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = {(one["name"], one["method"]): one for one in json.loads(done.stdout)}
    assert sum(one["num_failures"] for one in figures.values()) == 0
    return figures


def assert_all_was_done(figures: dict[tuple[str, str], dict[str, Any]]) -> None:
    for path in PATHS:
        n = {kind: figures[path, kind]["num_requests"] for kind in ("POST", "TTFT", "ITL", "E2E")}
        assert n["POST"] == n["TTFT"] > 0
        assert 0 < n["E2E"] < n["POST"]  # the others left
        assert n["ITL"] > 0


def test_the_server_is_as_before_when_all_users_are_gone() -> None:
    with serve(FakeModel(), make_settings()) as live:
        figures = run_locust(live.url, 6)
        live.wait_until(lambda: live.n_tasks == 0)
        live.wait_until(lambda: live.n_connections == 0)
        live.wait_until_idle()
        usage = live.engine.usage
        assert (usage.running, usage.waiting, usage.pages_used) == (0, 0, 0)
        # Nobody was refused: there is room for as many as there are users.
        assert live.post({"prompt": "still there"}).json()["text"] == "still there"
    assert_all_was_done(figures)


def test_every_stream_of_the_real_model_is_an_exact_copy(copier_url: str) -> None:
    def held() -> Any:
        return httpx.get(f"{copier_url}/health/ready").raise_for_status().json()

    before = held()
    assert_all_was_done(run_locust(copier_url, 6))
    deadline = time.monotonic() + 20
    while held() != before:
        assert time.monotonic() < deadline, held()
        time.sleep(0.05)
