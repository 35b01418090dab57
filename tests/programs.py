"""Programs of other people that tests start."""

import os
import shutil
from pathlib import Path

import pytest

LIST = Path(__file__).with_suffix(".txt")
_FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)  # not in the PATH


def packages() -> dict[str, str]:
    """For each program that tests start, the package of Debian that has it."""
    lines = LIST.read_text("utf-8").splitlines()
    return dict(line.split() for line in lines if line and not line.startswith("#"))


def find(name: str) -> str | None:
    """Where a program is, or None."""
    return shutil.which(name, path=os.pathsep.join([*map(str, _FOLDERS), os.environ["PATH"]]))


def program(name: str) -> str:
    """Where a program is; the test is skipped if it is missing."""
    found = find(name)
    if found is None:
        pytest.skip(f"{name} is missing: install the package `{packages()[name]}`")
    return found
