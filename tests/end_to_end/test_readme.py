"""What the README says beyond what tests/documents runs."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.report import stale

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# The command-line tools of this environment come first.
ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def _run(command: list[str]) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, check=True, text=True
    )
    return done.stdout


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_command_line_copies() -> None:
    (commands,) = [block for block in _blocks("sh") if "causalrn generate" in block]
    command = next(line for line in commands.splitlines() if line.startswith("causalrn generate"))
    assert _run(["bash", "-c", command]) == "copy me"


def test_figures_are_those_of_their_files() -> None:
    assert list(stale()) == []


def test_figures_of_checkpoints_are_of_their_weights() -> None:
    for weights in sorted((ROOT / "checkpoints").glob("*/model.safetensors")):
        fingerprint = hashlib.sha256(weights.read_bytes()).hexdigest()
        results = (weights.parent / "results.md").read_text(encoding="utf-8")
        of_others = re.findall(r"<!-- begin tried (\S+) -->", results)
        for file in weights.parent.glob("*.json"):
            if file.name not in ("config.json", *of_others):
                assert json.loads(file.read_bytes())["fingerprint"] == fingerprint, file
