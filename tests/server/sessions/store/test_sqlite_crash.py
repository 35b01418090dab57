"""A SQLite store whose process is killed, and whose disk is full or read-only, for real."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.programs import program
from tests.server.sessions.store.appending import IDS, token
from tests.server.sessions.store.stores import log_of, opened

ROOT = Path(__file__).parents[4]
N_KILLS = 20


def test_nothing_that_was_committed_is_lost_to_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    chance = random.Random(0)
    command = [sys.executable, "-m", "tests.server.sessions.store.appending", str(path)]
    acknowledged = 0
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        for kill in range(N_KILLS):
            program.stdin.write("\n")
            pid = int(program.stdout.readline())
            for _ in range(chance.randrange(6) if kill else 0):
                acknowledged = no_less(program.stdout.readline(), acknowledged)
            time.sleep(chance.uniform(0, 0.02))
            os.kill(pid, signal.SIGKILL)
            while (line := program.stdout.readline().strip()) != "dead":
                acknowledged = no_less(line, acknowledged)
            if kill % 4 == 3:  # in between, the next child has to cope with what it finds
                acknowledged = asyncio.run(check(path, acknowledged))
        program.stdin.close()
        assert program.wait(10) == 0
    assert acknowledged > 1000


def no_less(line: str, acknowledged: int) -> int:
    """The length that was printed; that which a child finds counts for all that came before it."""
    n_tokens = int(line)
    assert n_tokens >= acknowledged
    return n_tokens


async def check(path: Path, acknowledged: int) -> int:
    """Both logs are as long as was printed, if not longer by one append; returns their length."""
    async with opened(str(path)) as store:
        assert not any([(await store.get(id)).busy for id in IDS])
        first, second = [await log_of(store, id) for id in IDS]
        assert first == second
        assert acknowledged <= len(first) <= acknowledged + 700
        assert first == [token(place) for place in range(len(first))]
        return len(first)


def run_limited(case: str, path: Path) -> str:
    """Run a program of `limited`, without root's right to write to what is read-only."""
    command = [sys.executable, "-m", "tests.server.sessions.store.limited", case, str(path)]
    if os.getuid() == 0:
        command = [program("setpriv"), "--bounding-set=-dac_override", *command]
    done = subprocess.run(
        command, check=False, cwd=ROOT, stderr=subprocess.PIPE, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    log = run_limited("full", tmp_path / "sessions.db")
    # Told once each time, however many requests fail.
    assert log.count("is unavailable") == 5, log
    assert log.count("works again") == 5, log


def test_read_only_files_and_folders_can_be_read(tmp_path: Path) -> None:
    log = run_limited("read_only", tmp_path / "folder" / "sessions.db")
    assert log.count("is unavailable") == 2, log
