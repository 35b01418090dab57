"""Programs of other people that tests start."""

import os
import shutil
from pathlib import Path

import pytest

LIST = Path(__file__).with_suffix(".txt")
# Debian keeps PostgreSQL's programs out of the PATH, and servers like nginx out of that of users.
_FOLDERS = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), Path("/usr/sbin")]


def packages() -> dict[str, str]:
    """For each program that tests start, under any of its names, the package that has it."""
    lines = [line.split() for line in LIST.read_text("utf-8").splitlines() if line[0] != "#"]
    return {name: package for package, *names in lines for name in names}


def find(name: str) -> str | None:
    """Where a program is, or None."""
    folders = os.pathsep.join([*map(str, _FOLDERS), os.environ["PATH"]])
    names = [other for other, package in packages().items() if package == packages().get(name)]
    return next(filter(None, (shutil.which(one, path=folders) for one in names or [name])), None)


def program(name: str) -> str:
    """Where a program is; the test is skipped if it is missing."""
    found = find(name)
    if found is None:
        pytest.skip(f"{name} is missing: install the package `{packages()[name]}`")
    return found
