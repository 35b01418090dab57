"""The command for the day that there is a GPU, tried where there is none."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _run(*options: str, interpreted: bool) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {
        "CUDA_VISIBLE_DEVICES": "",
        "TRITON_INTERPRET": str(int(interpreted)),
    }
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *options],
        cwd=ROOT, env=environment, check=False, capture_output=True, text=True,
    )  # fmt: skip


def test_without_a_gpu_it_says_so() -> None:
    done = _run(interpreted=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: torch finds no GPU that it can use")


def test_all_of_its_parts_run_interpreted(tmp_path: Path) -> None:
    output = tmp_path / "gpu.json"
    checkpoint = str(ROOT / "checkpoints" / "exact-bytes-small")
    done = _run("--small", "--checkpoint", checkpoint, "--output", str(output), interpreted=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text())
    assert found["device"] == "interpreted"
    assert found["server"]["copies"] >= 13
    assert (found["server"]["wrong"], found["server"]["held"]) == (0, 0)
    assert {name.split()[0] for name in found["errors"]} == {
        "normalized", "separable", "keyed", "decoder", "whole", "draws", "peer", "records",
    }  # fmt: skip
    assert found["rates"]["tokens_per_second"]
