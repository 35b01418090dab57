"""Copies through HTTP by a real server, of the strings that are measured in process."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.copies import Cell, show
from benchmarks.server_process import ROOT

PLAN = """
[[copies]]
lengths = [3, 40]
strings = 4
"""


def test_a_sample_of_a_plan_is_copied(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN)
    out = tmp_path / "copies.json"
    args = ("--checkpoint", "checkpoints/copy-az", "--plan", plan, "--strings", 2, "--chunk", 8)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.copies", *map(str, args), "--output", out],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:4] == [
        "| length | strings | exact as one answer | exact as a stream |",
        "| --- | ---: | ---: | ---: |",
        "| 3 | 8 | 8 | 8 |",
        "| 40 | 8 | 8 | 8 |",
    ]
    values = json.loads(out.read_text())
    assert json.loads(done.stdout.splitlines()[-1]) == values
    cells = [Cell(**cell) for cell in values["cells"]]
    assert {(cell.n_strings, cell.whole, cell.streamed) for cell in cells} == {(2, 2, 2)}


def test_what_is_not_exact_is_not_counted() -> None:
    cells = [
        {"kind": "prose", "length": 8, "n_strings": 2, "whole": 2, "streamed": 1},
        {"kind": "runs", "length": 8, "n_strings": 2, "whole": 1, "streamed": 2},
    ]
    assert "| 8 | 4 | 3 | 3 |" in show({"cells": cells})
