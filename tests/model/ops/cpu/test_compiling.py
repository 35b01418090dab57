"""Real child processes compile tiny functions; they are killed, cannot start, or have no folder."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from causalrn.model.ops.cpu.compiling import find
from causalrn.model.ops.relation.cpu_keyed_layer import keyed_layer
from tests.programs import find as find_program

ROOT = Path(__file__).parents[4]

FORMS = """
import os, signal, sys, time
from causalrn.model.ops.cpu import jit

is_child = sys.argv[0].endswith("compiling.py")
if is_child and "CHILD" in os.environ:
    exec(os.environ["CHILD"])

def times_2(x):
    return 2 * x

def times_3(x):
    return 3 * x

def times_5(x):
    return 5 * x

I64 = jit.types.int64
ALL = [
    jit.Form(f"forms:ALL_BY_NAME.{one.__name__}", jit.entry(one, one.__name__), [I64])
    for one in (times_2, times_3, times_5)
]
class ALL_BY_NAME:
    times_2, times_3, times_5 = ALL
"""
PROGRAM = """
import ctypes, logging, os, sys, time
import forms
from causalrn.model.ops.cpu import compiling, jit

def say(*words):
    # At once, since another thread may write meanwhile, and print would end the line later.
    sys.stdout.write(" ".join(map(str, words)) + "\\n")

logging.basicConfig(format="%(message)s", stream=sys.stdout)
compiling.usable_cores = lambda: int(os.environ.get("CORES", 2))  # whatever there are here
compiling.in_a_hurry = "HURRY" in os.environ
jit.report_compiling(lambda doing: sys.stdout.write(f"{doing}\\n"))
compiling.compile_all(forms.ALL[:2], forms.ALL[2:])
say("is there:", *(form.is_kept for form in forms.ALL))
say("awaited:", *(compiling.is_awaited(form) for form in forms.ALL))
while any(map(compiling.is_awaited, forms.ALL)):
    time.sleep(0.01)
signature = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
say("values:", *(signature(form.c_address())(7) for form in forms.ALL))
say("is there:", *(form.is_kept for form in forms.ALL))
"""
# What a child does first, so that the third function takes long.
SLOWLY = """
def compile_slowly(form, compile=jit.Form.compile):
    time.sleep(2 * form.home.endswith("5"))
    compile(form)
jit.Form.compile = compile_slowly
"""
STRANGER = ("setpriv", "--reuid=12345", "--regid=12345", "--clear-groups")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "forms.py").write_text(FORMS)
    return tmp_path


def start(folder: Path, *before: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*before, sys.executable, "-c", PROGRAM],
        cwd=folder,
        env=os.environ
        | {"NUMBA_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": f"{folder}:{ROOT}"}
        | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, *before: str, **environment: str) -> list[str]:
    """What the program writes, line by line."""
    with start(folder, *before, **environment) as process:
        written, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert errors == ""
    lines = written.splitlines()
    assert "values: 14 21 35" in lines
    return lines


def test_children_compile_into_the_cache_and_nothing_is_compiled_twice(folder: Path) -> None:
    first = run(folder)
    assert first[0].startswith("compiling kernels, once, about half a minute, in 2 processes (0 of")
    # Two that are done at once are told of once.
    assert any("(1 of 3 done in " in line or "(2 of 3 done in " in line for line in first)
    assert first[-4:-1] == [
        "is there: True True True",
        "awaited: False False False",
        "values: 14 21 35",
    ]
    assert run(folder)[0] == "is there: True True True"  # and no child was started


def test_what_can_wait_is_awaited_by_who_is_in_a_hurry(folder: Path) -> None:
    lines = run(folder, HURRY="1", CHILD=SLOWLY)
    assert "awaited: False False True" in lines
    assert "compiling kernels for several threads; until they are there, one computes" in lines
    assert "all kernels are there: from now on, all threads compute" in lines
    assert lines[-1] == "is there: True True True"
    assert run(folder, HURRY="1")[:2] == ["is there: True True True", "awaited: False False False"]


@pytest.mark.parametrize("hurry", [{}, {"HURRY": "1"}], ids=["waits", "hurries"])
@pytest.mark.parametrize(
    ("child", "warning"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "no other process is left to compile kernels"),
        ("sys.exit(1)", "no other process is left to compile kernels"),
        ("raise ImportError('no')", "another process did not compile forms:ALL_BY_NAME.times_2 (I"),
    ],
)
def test_what_children_fail_to_compile_this_process_compiles(
    folder: Path, child: str, warning: str, hurry: dict[str, str]
) -> None:
    lines = run(folder, CHILD=child, **hurry)
    assert any(line.startswith(warning) for line in lines)
    assert lines[-1] == "is there: True True True"


def test_one_core_needs_no_child(folder: Path) -> None:
    lines = run(folder, CORES="1", CHILD="print('a child', file=sys.stderr)")
    assert lines[0] == "is there: False False False"
    assert lines[-1] == "is there: True True True"


@pytest.mark.skipif(
    find_program("setpriv") is None or os.geteuid() != 0, reason="needs root and setpriv"
)
def test_without_a_folder_that_can_be_written_there_is_no_child(folder: Path) -> None:
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(0o755)
    privileges = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    child = "print('a child', file=sys.stderr)"
    without_home = ("env", "--unset=HOME")
    lines = run(folder, *STRANGER, *privileges, *without_home, CHILD=child)
    assert lines[-1] == "is there: False False False"
    assert not any("process" in line for line in lines)


def test_two_programs_may_fill_the_same_cache_at_once(folder: Path) -> None:
    with start(folder) as one, start(folder) as other:
        for process in (one, other):
            written, errors = process.communicate(timeout=120)
            assert "values: 14 21 35" in written, errors
            assert "compiles" not in written
    assert run(folder)[0] == "is there: True True True"


def children(pid: int) -> set[int]:
    """The processes that a process has started and that have not ended."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return {int(child) for file in files for child in file.read_text().split()}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_child_outlives_its_parent(folder: Path, number: signal.Signals) -> None:
    with start(folder, CHILD="time.sleep(60)") as process:
        while len(found := children(process.pid)) < 2:
            time.sleep(0.01)
        process.send_signal(number)
        process.communicate(timeout=20)
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in found):
        with suppress(FileNotFoundError):
            assert time.monotonic() < deadline
        time.sleep(0.01)


def test_operations_are_found_at_home() -> None:
    for name in ("serial", "parallel", "entry"):
        form = getattr(keyed_layer, name)
        assert form.home == f"causalrn.model.ops.relation.cpu_keyed_layer:keyed_layer.{name}"
        assert find(form.home) is form
