"""What kernels become for GPUs that are not there fits into the registers of these."""

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu_rates
from benchmarks.disassembly import counts, inner_loops, jumps_back, ptx_jumps_back
from benchmarks.figures import read_results
from benchmarks.gpu_rooflines import Roofline
from benchmarks.instruction_counts import CHANNELS, per_pair, per_unit, unrolled
from benchmarks.kernel_tiles import variants

ROOT = Path(__file__).resolve().parents[2]
# The few pairs that count in a sharp relation, and a number or two of a segment or a sequence.
IN_FLOAT64 = (
    *(f"relation.gpu_keyed.{name}," for name in ("read", "combine", "note_found")),
    *(f"relation.gpu_keyed_whole.{name}," for name in ("relate_keyed", "add_keyed_gradients")),
)
LARGEST_SHARED = 48 * 1024  # what every GPU gives without being asked for more
FEWEST_WARPS = 8  # that an SM is to hold of any kernel, two for each of its schedulers

CODE = """\
.L_x_0:
        /*0010*/ DADD R2, R4, R6 ;
.L_x_1:
        /*0020*/ FADD R2, R4, R6 ;
        /*0030*/ MUFU.EX2 R2, R4 ;
        /*0035*/ LDG.E.128 R8, [R2] ;
        /*0038*/ @P2 BRA `(.L_x_2) ;
        /*0039*/ DMUL R2, R4, R6 ;
        /*003a*/ STG.E [R2], R9 ;
.L_x_2:
        /*0040*/ @P0 BRA `(.L_x_1) ;
        /*0050*/ DMUL R2, R4, R6 ;
        /*0055*/ @P1 BRA `(.L_x_0) ;
        /*0058*/ EXIT ;
.L_x_3:
        /*0060*/ BRA `(.L_x_3);
"""
PTX = """\
$L__BB0_1:                              // =>This Inner Loop
\tld.global.v2.b32 \t{ %r1, %r2 }, [ %rd1 + 0 ];
\t@%p1 bra \t$L__BB0_3;
\tadd.rn.f32 \t%f1, %f2, %f3;
\t@%p2 bra \t$L__BB0_1;
\tst.global.b32 \t[ %rd1 + 0 ], { %r1 };
$L__BB0_3:
\t@%p3 bra \t$L__BB0_1;
\tret;
"""


def test_inner_loops_are_what_a_jump_goes_back_over() -> None:
    lines = CODE.splitlines()
    ((begin, end),) = inner_loops(jumps_back(lines))
    assert lines[begin] == ".L_x_1:"
    assert lines[end - 1].endswith("@P0 BRA `(.L_x_1) ;")
    lines = PTX.splitlines()
    ((begin, end),) = inner_loops(ptx_jumps_back(lines))
    assert (lines[begin].split(":")[0], lines[end]) == ("$L__BB0_1", "\tret;")


def test_instructions_are_counted_by_what_they_occupy() -> None:
    found = counts(CODE.splitlines())
    assert found == {
        "special": 1, "float32": 1, "float64": 3, "integers": 0, "shuffles": 0, "loads": 1,
        "words": 5, "all": 12,
    }  # fmt: skip
    assert counts(["        /*0010*/ @!UP0 IMAD.MOV.U32 R2, RZ, RZ, R4 ;"])["integers"] == 0
    assert counts(["        /*0010*/ @P1 LDS.64 R2, [R4+0x10] ;"])["words"] == 2


def test_a_unit_takes_its_share_of_a_loop() -> None:
    assert unrolled(CODE, PTX) == 1
    assert unrolled(CODE.replace("FADD R2", "LDG.E R2"), PTX) == 2
    assert per_unit(CODE, "loop", "", 2, 0)["all"] == 7 / 2
    assert per_unit(CODE, "loop", "jumps", 2, 0)["all"] == 4 / 2
    assert per_unit(CODE, "loop", "float64", 2, 0)["float64"] == 0
    nested = per_unit(CODE, "loops", "", 1, 10)
    assert (nested["all"], nested["float64"]) == (3 + 10 * 7, 2 + 10 * 1)
    assert per_unit(CODE, "kernel", "", 1, 10)["all"] == 4  # without the loop, which loads


def test_a_kernel_is_bound_by_what_takes_longest() -> None:
    sm, gpu = gpu_rates.SMS[90], gpu_rates.GPUS[90]
    n_bytes = 2 * gpu.bytes / gpu_rates.clock(90) / gpu.sms  # two clocks of an SM
    each = {"special": 1.0, "float32": 5.0, "words": 1.0, "all": 3.0 * sm.issued}
    least = {"special": 1.0, "float32": 4.0}
    by_memory = Roofline("", "", n_bytes, least, {90: each}).on(90)
    assert by_memory.bound_by == "memory"
    assert by_memory.share == pytest.approx(2 / 3)
    by_arithmetic = Roofline("", "", 0, least, {90: each}).on(90)
    assert by_arithmetic.bound_by == "special functions"
    assert by_arithmetic.share == pytest.approx(1 / sm.special / 3)


LOCATED = """\
.L_x_0:
\t//## File "/somewhere/whole.py", line 30
        /*0010*/ MUFU.RSQ R2, R4 ;
        /*0018*/ @P1 BRA `(.L_x_3) ;
.L_x_1:
\t//## File "/somewhere/whole.py", line 1
        /*0020*/ LDG.E.128 R4, [R2] ;
        /*0030*/ FADD R6, R4, R5 ;
        /*0040*/ FADD R7, R4, R5 ;
\t//## File "/somewhere/whole.py", line 30
        /*0050*/ FFMA R8, R6, R6, R8 ;
        /*0060*/ FFMA R8, R7, R7, R8 ;
        /*0070*/ @P0 BRA `(.L_x_1) ;
.L_x_2:
\t//## File "/somewhere/whole.py", line 1
        /*0080*/ FADD R6, R4, R5 ;
\t//## File "/somewhere/whole.py", line 30
        /*0090*/ MUFU.EX2 R6, R6 ;
        /*00a0*/ FADD R9, R9, R6 ;
        /*00b0*/ STG.E [R2], R9 ;
        /*00c0*/ @P0 BRA `(.L_x_2) ;
.L_x_3:
\t//## File "/somewhere/whole.py", line 20
        /*00d0*/ MUFU.EX2 R6, R6 ;
        /*00e0*/ @P0 BRA `(.L_x_3) ;
\t//## File "/somewhere/whole.py", line 30
        /*00f0*/ @P2 BRA `(.L_x_0) ;
"""


def test_pairs_are_counted_over_all_loops_but_rare_ones() -> None:
    functions = {"_pair": range(1, 9), "_go_with_care": range(20, 29), "go": range(30, 90)}
    found = per_pair(LOCATED, 2, functions)
    once = 3 / (2 * CHANNELS)  # the root and two jumps, for the channels of two pairs
    assert found["all"] == pytest.approx(6 / 2 + 5 + once)
    assert found["float32"] == 4 / 2 + 2
    assert found["special"] == pytest.approx(1 + 1 / (2 * CHANNELS))
    assert found["loads"] == 1 / 2
    assert found["words"] == 4 / 2 + 1


def test_every_kernel_is_compiled() -> None:
    files = [path for path in (ROOT / "model" / "ops").rglob("*.py") if "gpu" in str(path)]
    launches = re.compile(r"\b(\w+)\[(?:\(.*\)|grid)\]\(")
    sources = [path.read_text() for path in files]
    kernels = {
        name for one in sources for name in re.findall(r"@triton.jit(?:\(.*\))?\ndef (\w+)", one)
    }
    launched = {name for one in sources for name in launches.findall(one)} & kernels
    every = list(variants())
    assert {one.kernel.__name__ for one in every} == launched
    assert {one.kernel for one in every} == {one.kernel for one in every if one.works}
    assert {"relate", "relate_whole", "survey", "product", "scan"} <= launched


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
    assert min(one["warps_per_sm"] for one in kernels.values()) >= FEWEST_WARPS
    check_whole_sequences(
        {name: one for name, one in kernels.items() if name.startswith("relation.gpu_whole.")},
        target,
    )


def check_whole_sequences(kernels: dict[str, Any], target: int) -> None:
    assert len(kernels) == 3
    for name, one in kernels.items():
        # Nothing goes from thread to thread: each one reads only what it has written itself, so it
        # needs no barrier between loops.
        assert one["shared"] == 0
        (each,) = one["each"]
        assert each["shuffles"] < 0.01
        # Of the rate of bare exponentials; arithmetic alone leaves gradients 44 % on 8.0.
        least = 0.75 if "relate_whole" in name else 0.4 if target == 80 else 0.6
        assert (
            1 / gpu_rates.SMS[target].special / max(gpu_rates.clocks(each, target).values()) > least
        )
        assert one["warps_per_sm"] >= (16 if "relate_whole" in name else 12)


def test_published_figures_are_of_these_kernels() -> None:
    """Of all of them, and of all that is known of their work."""
    published = read_results("machine-code")
    every = list(variants())
    assert published["kernels"].keys() == {one.name for one in every}
    works = {one.name: [asdict(work) for work in one.works] for one in every if one.works}
    assert published["works"] == works
