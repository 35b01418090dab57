"""The conditions that tests rely on do hold."""

import os
import subprocess
import sys

import torch
from hypothesis import settings

from model.ops.cpu import jit


def test_uninitialised_tensors_are_poisoned() -> None:
    assert torch.empty(1000).isnan().all()
    assert torch.empty_like(torch.zeros(3, 5)).isnan().all()
    assert (torch.empty(10, dtype=torch.int64) == torch.iinfo(torch.int64).max).all()


def test_kernels_use_the_threads_that_the_environment_says() -> None:
    assert jit.num_threads() == int(os.environ["NUMBA_NUM_THREADS"])
    program = "from model.ops.cpu import jit; print(jit.num_threads())"
    child = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert child.stdout.strip() == os.environ["NUMBA_NUM_THREADS"]


def test_property_tests_draw_the_same_examples_in_every_run() -> None:
    assert settings().derandomize
