"""The conditions that tests rely on do hold."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from causalrn.model.ops.cpu import jit
from tests.programs import packages

ROOT = Path(__file__).parents[1]


def test_uninitialised_tensors_are_poisoned() -> None:
    assert torch.empty(1000).isnan().all()
    assert torch.empty_like(torch.zeros(3, 5)).isnan().all()
    assert (torch.empty(10, dtype=torch.int64) == torch.iinfo(torch.int64).max).all()


def test_kernels_use_the_threads_that_the_environment_says() -> None:
    assert jit.num_threads() == int(os.environ["NUMBA_NUM_THREADS"])
    program = "from causalrn.model.ops.cpu import jit; print(jit.num_threads())"
    child = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert child.stdout.strip() == os.environ["NUMBA_NUM_THREADS"]


def test_property_tests_draw_the_same_examples_in_every_run() -> None:
    assert settings().derandomize


def _names_looked_up(path: Path) -> Iterator[str]:
    """Programs that a file looks up with `which` or `program`."""
    for node in ast.walk(ast.parse(path.read_bytes(), path)):
        if isinstance(node, ast.Call) and node.args:
            called = ast.unparse(node.func).rpartition(".")[2]
            first = node.args[0]
            if called in {"which", "program"} and isinstance(first, ast.Constant):
                yield str(first.value)


def test_every_program_that_tests_look_up_is_in_the_list() -> None:
    tests = sorted((ROOT / "tests").rglob("*.py"))
    looked_up = {name for path in tests for name in _names_looked_up(path)}
    assert {"postgres", "node", "promtool"} <= looked_up <= packages().keys()


def test_missing_programs_are_named_at_once_and_stop_nothing(tmp_path: Path) -> None:
    for name in ("dirname", "id", "tr"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    (tmp_path / "npm").symlink_to(sys.executable)
    done = subprocess.run(
        ["/bin/sh", ROOT / "tests" / "programs.sh"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    named = done.stdout.split("): ")[1].split()
    assert {"chromium", "nodejs"} <= {*named} <= {*packages().values()}
    assert "npm" not in named


def test_a_missing_program_skips_its_test_by_name(tmp_path: Path) -> None:
    test = tmp_path / "test_skipped.py"
    test.write_text("""
from tests.programs import program

def test_in_a_browser():
    program("chromium")

def test_without_one():
    pass
""")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--rootdir={tmp_path}"]
    done = subprocess.run(
        [*command, f"--confcutdir={tmp_path}", "-c", ROOT / "pyproject.toml", test],
        cwd=ROOT,
        env=os.environ | {"PATH": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "test_skipped.py::test_in_a_browser - Skipped: chromium is missing: " in done.stdout
    assert "install the package `chromium`" in done.stdout
    assert "1 passed, 1 skipped" in done.stdout


def test_what_a_test_starts_heeds_ctrl_c() -> None:
    program = "import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    command = [sys.executable, "-c", program]
    child = subprocess.run(command, capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "False"


@pytest.mark.parametrize("processes", [[], ["-n1"]], ids=["in one process", "side by side"])
def test_it_does_so_where_the_run_itself_was_told_to_ignore_it(processes: list[str]) -> None:
    test = f"{Path(__file__)}::{test_what_a_test_starts_heeds_ctrl_c.__name__}"
    pytest_command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *processes]
    done = subprocess.run(
        ["sh", "-c", 'trap "" INT QUIT; exec "$@"', "sh", *pytest_command, test],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
