"""Large tensors come in large pieces."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

MODES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
FAULTS = """
import resource, sys
from causalrn.model.training.huge_pages import use_huge_pages
if sys.argv[1] == "huge":
    use_huge_pages()
import torch
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(2**24)  # 64 MiB, 16,384 pages of 4 KiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(pages: str) -> int:
    command = [sys.executable, "-c", FAULTS, pages]
    env = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
    return int(done.stdout)


@pytest.mark.skipif(
    not MODES.exists() or "[madvise]" not in MODES.read_text(),
    reason="this system has no huge pages, or gives them to nobody or everybody",
)
def test_a_large_tensor_takes_few_pages() -> None:
    assert _faults("huge") < 8192 < _faults("small")
