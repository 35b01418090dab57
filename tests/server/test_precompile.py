"""`python -m causalrn.server.precompile`; what it compiles is seen in tests/test_dockerfile.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("CAUSALRN_CHECKPOINT", "/no/such/folder", "/no/such/folder"),
        ("CAUSALRN_POOL_BYTES", "1", "pool"),
        ("CAUSALRN_POOL_BYTE", "1", "did you mean CAUSALRN_POOL_BYTES?"),
        ("CAUSALRN_PAGE_SIZE", "none", "CAUSALRN_PAGE_SIZE"),
    ],
)
def test_what_cannot_be_served_is_one_line(name: str, value: str, message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "causalrn.server.precompile"],
        env=os.environ | {name: value},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line
