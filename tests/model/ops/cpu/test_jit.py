import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.relation import cpu_whole
from tests.programs import find

ROOT = Path(__file__).parents[4]


def test_threads_are_bounded() -> None:
    with pytest.raises(ValueError, match="between 1 and"):
        jit.set_num_threads(0)
    with pytest.raises(ValueError, match="between 1 and"):
        jit.set_num_threads(10_000)


@pytest.mark.skipif(jit.num_threads() < 2, reason="there is one core")
def test_threads_are_set_for_the_whole_process() -> None:
    before, found = jit.num_threads(), []
    try:
        jit.set_num_threads(1)
        thread = threading.Thread(target=lambda: found.append(jit.num_threads()))
        thread.start()
        thread.join()
    finally:
        jit.set_num_threads(before)
    assert found == [1]


@pytest.fixture
def _threads_keep_the_gil() -> Iterator[None]:
    """No thread is made to give the GIL up: another gets it when it waits, or does without."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("_threads_keep_the_gil")
@pytest.mark.parametrize("size", [0, math.inf], ids=["serial", "parallel"])
def test_kernels_run_without_the_gil(size: float) -> None:
    """While a kernel runs in one thread, another goes on executing Python."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 2, 2400, 64)).astype(np.float32)
    out = np.empty_like(a)
    eps = np.float32(1e-6)
    cpu_whole.forward(a[:, :16].copy(), b[:, :16].copy(), 16, eps, 1, out[:, :16].copy(), work=size)
    started, ended = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        cpu_whole.forward(a, b, 2400, eps, 1, out, work=size)
        ended.set()

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    turns = 0
    while not ended.is_set():
        turns += 1
        time.sleep(0)  # lets the other thread have the GIL, where it wants it
    thread.join()
    # With the GIL held by the kernel, this loop would begin when that has ended.
    assert turns > 10


SCRIPT = """
import numpy as np
from causalrn.model.ops.relation import cpu_whole
a = np.ones((1, 16, 8), np.float32)
cpu_whole.forward(a, a, 16, np.float32(1e-6), 1, np.empty_like(a))
stats = cpu_whole.forward.parallel.stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


def test_a_second_process_does_not_compile_again(tmp_path: Path) -> None:
    def run() -> list[int]:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            cwd=ROOT,
            env={"NUMBA_CACHE_DIR": str(tmp_path), "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        )
        return [int(word) for word in done.stdout.split()]

    assert run() == [0, 1]
    assert run() == [1, 0]


KERNEL = """
import sys
from pathlib import Path
import numpy as np
from causalrn.model.ops.cpu import jit

@jit.kernel
def double(x):
    for i in jit.prange(len(x)):
        x[i] *= 2

said = []
jit.report_compiling(said.append)
x = np.ones(3, np.float32)
double(x, work=0)
assert x.tolist() == [2, 2, 2]
print(*said, sep="\\n")
"""
# May read everything and write nothing of root's, as in a container with a user of its own.
STRANGER = (
    "setpriv", "--reuid=12345", "--regid=12345", "--clear-groups",
    "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
)  # fmt: skip


def use_kernel(file: Path, cache: Path, *before: str) -> str:
    """What a process is told that uses the kernel; nothing if the disk cache has it."""
    file.write_text(KERNEL)
    environment = {name: value for name, value in os.environ.items() if name != "HOME"}
    done = subprocess.run(
        [*before, sys.executable, str(file)],
        cwd=ROOT,
        env=environment | {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


def test_a_damaged_cache_is_compiled_again(tmp_path: Path) -> None:
    file, cache = tmp_path / "kernel.py", tmp_path / "cache"
    assert use_kernel(file, cache).startswith("compiling kernels, once")
    assert use_kernel(file, cache) == ""
    for damaged in cache.rglob("*.nb?"):
        damaged.write_bytes(damaged.read_bytes()[:50])
    assert use_kernel(file, cache).startswith("compiling kernels")


@pytest.mark.skipif(find("setpriv") is None or os.geteuid() != 0, reason="needs root and setpriv")
def test_a_cache_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    file, cache = tmp_path / "kernel.py", tmp_path / "cache"
    again = use_kernel(file, cache, *STRANGER)
    assert again.startswith("compiling kernels, about a minute at every start")
    assert "NUMBA_CACHE_DIR" in again
    assert use_kernel(file, cache).startswith("compiling kernels, once")
    assert use_kernel(file, cache, *STRANGER) == ""
