"""How long the server takes to start, and what it holds when it is idle.

    python -m benchmarks.start [--starts 5] [--output FILE]

Each time is that from the start of the process `uvicorn server.app:app` until `/health/ready` says
that it is ready:

- in one process: no kernel is in the cache on disk, and the server compiles them all itself;
- in parallel: the same, but it has processes for that, as it always does where there are several
  cores and a cache that can be written. The time until all threads compute is given, too;
- cached: all kernels are in the cache; the median of several starts.

The first two follow each other, so that what else the machine does falls on both. Memory is the
resident memory of a server that started with all kernels in the cache, after one request. The last
line is JSON.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from benchmarks.figures import add_checkpoint, arguments, machine, publish, start
from benchmarks.server_process import COMMAND, ServerProcess, environment, serving, wait_until_ready

_ALONE = """
import uvicorn
from causalrn.model.backends import cpu_program
cpu_program.compile_all = lambda first, later: None
uvicorn.main()
"""
_TEXT = "A copy, byte by byte."
_SECONDS = 600


@contextmanager
def _started(
    checkpoint: Path, folder: Path, *, alone: bool = False
) -> Iterator[tuple[ServerProcess, float]]:
    """A server that is ready, and the seconds that this took; kernels are kept in the folder."""
    command = [sys.executable, "-c", _ALONE, *COMMAND[3:]] if alone else COMMAND
    settings = {"checkpoint": checkpoint, "session_store": folder / "sessions.db"}
    variables = environment(settings) | {"NUMBA_CACHE_DIR": str(folder)}
    began = time.perf_counter()
    with serving(command, variables) as server:
        wait_until_ready(server)
        yield server, time.perf_counter() - began


def _seconds_until_all_compute(server: ServerProcess) -> float:
    """How long it takes from now until no child of the server compiles any more."""
    began = time.perf_counter()
    tasks = Path(f"/proc/{server.pid}/task")
    while any(file.read_text() for file in tasks.glob("*/children")):
        if time.perf_counter() - began > _SECONDS:
            raise RuntimeError("children did not end")
        time.sleep(0.1)
    return time.perf_counter() - began


def _resident_mib(server: ServerProcess) -> float:
    """Resident memory after one request."""
    answer = httpx.post(f"{server.url}/generate", json={"prompt": _TEXT, "max_tokens": 64})
    if answer.raise_for_status().json()["text"] != _TEXT:
        raise RuntimeError("the copy is not exact")
    fields = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    (line,) = (line for line in fields if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures, as JSON-ready values."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        with _started(options.checkpoint, Path(one), alone=True) as (_, alone):
            print(f"no kernel there, in one process: {alone:.1f} s", flush=True)
        with _started(options.checkpoint, Path(other)) as (server, parallel):
            complete = parallel + _seconds_until_all_compute(server)
            print(f"in parallel: {parallel:.1f} s, all threads after {complete:.1f} s", flush=True)
        cached = []
        for _ in range(options.starts):
            with _started(options.checkpoint, Path(other)) as (server, seconds):
                cached.append(seconds)
                resident = _resident_mib(server)
            print(f"all kernels there: {seconds:.2f} s", flush=True)
    return machine() | {
        "model": options.checkpoint.name,
        "cold_seconds": {"one_process": alone, "parallel": parallel, "complete": complete},
        "cold_ratio": parallel / alone,
        "cached_seconds": cached,
        "resident_mib": resident,
    }


def main() -> None:
    """Print the figures for people, then as JSON."""
    parser = arguments(__doc__)
    add_checkpoint(parser)
    parser.add_argument(
        "--starts", type=int, default=5, help="with all kernels there; default %(default)s"
    )
    options = parser.parse_args()
    figures = measure(options)
    print(
        f"in parallel {figures['cold_ratio']:.2f} of the time of one process; all there: "
        f"{median(figures['cached_seconds']):.2f} s; {figures['resident_mib']:.0f} MiB"
    )
    publish(figures, options.output)


if __name__ == "__main__":
    start(main)
