"""What all benchmarks do with their output."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.figures import arguments

ROOT = Path(__file__).parents[2]


def test_a_file_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "absent" / "x.json"
    with pytest.raises(SystemExit) as ended:
        arguments("A benchmark.").parse_args(["--output", str(file)])
    assert ended.value.code == 2
    assert f"--output: {file}: No such file or directory" in capsys.readouterr().err
    options = arguments("A benchmark.").parse_args(["--output", str(tmp_path / "x.json")])
    assert options.output == tmp_path / "x.json"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "file", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda file: file.stem
)
def test_help_fits_80_columns(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    doc = ast.get_docstring(ast.parse(file.read_text()))
    assert doc is not None
    shown = arguments(doc).format_help()
    assert max(map(len, shown.splitlines())) <= 80
    assert doc.split() == shown.split()[shown.split().index(doc.split()[0]) :][: len(doc.split())]
    assert shown.count("\n    python -m") == doc.count("\n    python -m")


def leave(main: str, *args: str) -> tuple[int, str]:
    """Run a benchmark whose output nobody reads; its exit status, and what it complains of."""
    program = (
        f"from benchmarks.figures import publish, start\nimport sys, pathlib\n{main}\nstart(main)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, *args],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
    return process.returncode, errors


@pytest.mark.parametrize("failures", [[], ["one"]])
def test_a_reader_that_leaves_costs_no_results(tmp_path: Path, failures: list[str]) -> None:
    file = tmp_path / "x.json"
    main = f"""
def main():
    print("a table")
    publish({{"failures": {failures}}}, pathlib.Path(sys.argv[1]))
"""
    assert leave(main, str(file)) == (1, "")
    assert json.loads(file.read_text()) == {"failures": failures}
