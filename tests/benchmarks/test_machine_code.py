"""What kernels become for GPUs that are not there fits into the registers of these."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.machine_code import loops, variants
from model.ops.embedding import gpu as embedding
from model.ops.gpu import linear
from model.ops.logits import gpu as logits
from model.ops.relation import gpu, gpu_separable
from model.ops.token_shift import gpu as token_shift

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
    launched = {
        name
        for module in (embedding, linear, logits, gpu, gpu_separable, token_shift)
        for name, thing in vars(module).items()
        if hasattr(thing, "__getitem__") and hasattr(thing, "fn") and not name.startswith("_")
        if thing.fn.__module__ == module.__name__
    }
    found = {variant.name.split(",")[0].rsplit(".", 1)[1] for variant in variants()}
    assert found == launched
    assert "relate" in launched


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
    assert {name: one for name, one in kernels.items() if one["float64_in_loops"]} == {}
    assert max(one["shared"] for one in kernels.values()) <= LARGEST_SHARED
    assert all(one["exponentials"] for name, one in kernels.items() if ".relate," in name)
