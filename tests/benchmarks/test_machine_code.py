"""What kernels become for GPUs that are not there fits into the registers of these."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.machine_code import loops, variants

ROOT = Path(__file__).resolve().parents[2]
# The few pairs that count in a sharp relation, and a number or two of a segment or a sequence.
IN_FLOAT64 = (
    *(f"relation.gpu_keyed.{name}," for name in ("read", "combine", "note_found")),
    *(f"relation.gpu_keyed_whole.{name}," for name in ("relate_keyed", "add_keyed_gradients")),
)
LARGEST_SHARED = 48 * 1024  # what every GPU gives without being asked for more

CODE = """\
.L_x_0:
        /*0010*/ DADD R2, R4, R6 ;
.L_x_1:
        /*0020*/ FADD R2, R4, R6 ;
        /*0030*/ MUFU.EX2 R2, R4 ;
        /*0040*/ @P0 BRA `(.L_x_1) ;
        /*0050*/ DMUL R2, R4, R6 ;
        /*0055*/ @P1 BRA `(.L_x_0) ;
.L_x_2:
        /*0060*/ BRA `(.L_x_2);
"""


def test_inner_loops_are_what_a_jump_goes_back_over() -> None:
    (loop,) = loops(CODE)
    assert "FADD" in loop
    assert "MUFU.EX2" in loop
    assert "DADD" not in loop
    assert "DMUL" not in loop


def test_every_kernel_is_compiled() -> None:
    files = [path for path in (ROOT / "model" / "ops").rglob("*.py") if "gpu" in str(path)]
    launches = re.compile(r"\b(\w+)\[(?:\(.*\)|grid)\]\(")
    sources = [path.read_text() for path in files]
    kernels = {
        name for one in sources for name in re.findall(r"@triton.jit(?:\(.*\))?\ndef (\w+)", one)
    }
    launched = {name for one in sources for name in launches.findall(one)} & kernels
    assert {v.kernel.__name__ for v in variants()} == launched
    assert {"relate", "survey", "product", "scan"} <= launched


@pytest.mark.parametrize("target", [80, 89, 90, 100])
def test_nothing_spills(target: int, tmp_path: Path) -> None:
    output = tmp_path / "found.json"
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    subprocess.run(
        [sys.executable, "-m", "benchmarks.machine_code", "--targets", str(target),
         "--output", str(output)],
        env=environment, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    kernels = {
        name: by_target[str(target)]
        for name, by_target in json.loads(output.read_text())["kernels"].items()
    }
    assert {name: one for name, one in kernels.items() if one["spilled"]} == {}
    assert {name: one for name, one in kernels.items() if one["float64_in_loops"]}.keys() <= {
        name for name in kernels if name.startswith(IN_FLOAT64)
    }
    assert max(one["shared"] for one in kernels.values()) <= LARGEST_SHARED
    assert all(one["exponentials"] for name, one in kernels.items() if ".relate," in name)
