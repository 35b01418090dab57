"""Forks of a process whose kernels have threads."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[4]

PROGRAM = """
import multiprocessing
import sys
from pathlib import Path

from causalrn.model.checkpoint import load_checkpoint
from causalrn.model.generation import generate
from causalrn.model.ops.cpu import jit

jit.PARALLEL_WORK = 0  # every kernel takes its parallel form
checkpoint = load_checkpoint(Path("checkpoints/copy-az"))
prompt = checkpoint.tokenizer.encode("fork")


def answer(_=None):
    steps = list(generate(checkpoint, [prompt], max_tokens=[9]))
    return steps, jit.num_threads()


if __name__ == "__main__":
    steps, _ = answer()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for others, n_threads in pool.map_async(answer, range(2)).get(timeout=60):
            assert others == steps, others
            assert n_threads == 1
    assert answer()[0] == steps
"""


def test_a_fork_computes_the_same_without_the_threads_that_it_lacks() -> None:
    # Only one thread forks, but libraries have others, which Python warns of.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM]
    done = subprocess.run(
        command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr
