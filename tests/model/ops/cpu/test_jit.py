import math
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from model.ops.cpu import jit
from model.ops.relation import cpu

ROOT = Path(__file__).parents[4]


def test_threads_are_bounded() -> None:
    with pytest.raises(ValueError, match="between 1 and"):
        jit.set_num_threads(0)
    with pytest.raises(ValueError, match="between 1 and"):
        jit.set_num_threads(10_000)


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
    cpu.forward(a[:, :8].copy(), b[:, :8].copy(), eps, 1, out[:, :8].copy(), work=size)
    started, ended = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        cpu.forward(a, b, eps, 1, out, work=size)
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
from model.ops.relation import cpu
a = np.ones((1, 3, 8), np.float32)
cpu.forward(a, a, np.float32(1e-6), 1, np.empty_like(a))
stats = cpu.forward.parallel.stats
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
