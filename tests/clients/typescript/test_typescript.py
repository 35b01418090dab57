"""The tests of the TypeScript client, which Node runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import program

ROOT = Path(__file__).parents[3]
CLIENT = ROOT / "clients" / "typescript"
# Of the `make` that runs these tests, its options are not for the one that they run.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}


def _run(*command: str, cwd: Path = CLIENT) -> None:
    environment = ENVIRONMENT | {"PYTHON": sys.executable}
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        text=True,
    )
    if done.returncode:
        pytest.fail(f"{' '.join(command)}:\n{done.stdout}", pytrace=False)


@pytest.fixture(scope="session")
def _built() -> None:
    program("node")
    program("npm")
    _run("make", "clients/typescript/node_modules/.package-lock.json", cwd=ROOT)
    _run("npm", "run", "build:tests")


@pytest.mark.timeout(900)  # each is many tests, and they wait for servers to start
@pytest.mark.usefixtures("_built")
@pytest.mark.parametrize("suite", ["unit", "served", "browser"])
def test_suite(suite: str) -> None:
    if suite == "browser":
        program("chromium")
    _run("npm", "run", f"test:{suite}")


@pytest.mark.usefixtures("_built")
def test_the_types_are_those_of_the_server() -> None:
    _run("npm", "run", "types", "--", "--check")
