"""What the kernels of devices become for GPUs that need not be there. Nothing is measured.

    python -m benchmarks.machine_code [--targets 80,89,90,100] [--output FILE]

Triton compiles each kernel, with each tile that its launcher may choose, for each compute
capability. What is told of it: registers of a thread; bytes that do not fit into them (spills);
bytes of shared memory; warps that an SM can hold; and how many instructions there are that compute
exponentials, and in inner loops, in float64. Of a tile or two of each kernel it tells what a unit
of its work takes, such as a pair and channel: how many instructions, by what they occupy
(`benchmarks.instruction_counts`), and how many bytes of memory; and what that comes to by the rates
of data sheets (`benchmarks.gpu_rates`): the time of special functions, of arithmetic and of memory,
which of them bounds the kernel, and what its instructions leave of that bound. This is printed for
the last of the compute capabilities. The last line is JSON, with all of them.
"""

import inspect
import re
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import triton

from benchmarks import gpu_rates
from benchmarks.disassembly import inner_loops, ptx_jumps_back
from benchmarks.figures import arguments, integers, publish, start
from benchmarks.gpu_rooflines import Roofline
from benchmarks.instruction_counts import per_exponential, per_pair, per_unit, unrolled
from benchmarks.kernel_tiles import variants
from benchmarks.kernel_variant import Variant
from benchmarks.kernel_work import Work

_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
_FLOAT64 = r"\b(?:add|sub|mul|fma|div|rcp|sqrt|setp|min|max)\.\S*f64\b"


def told(variant: Variant, target: int) -> dict[str, Any]:
    """What a kernel becomes for a compute capability, such as 90 for 9.0."""
    made = variant.compile(target)
    ptx = made.asm["ptx"]
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        usage = _tell("cuobjdump", "-res-usage", file.name)
        code = ""
        if variant.works:  # a disassembly takes half as long as all else
            located = ["-g"] * any(work.part == "pairs" for work in variant.works)
            code = _tell("nvdisasm", "-c", *located, file.name)
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", usage)
    if found is None:
        raise ValueError(f"cuobjdump tells nothing of {variant.name}: {usage}")
    registers, stack, local = map(int, found.groups())
    # cuobjdump tells what a kernel has from the start, and this is asked for when it is launched.
    shared = made.metadata.shared
    lines = ptx.splitlines()
    loops = (lines[begin:end] for begin, end in inner_loops(ptx_jumps_back(lines)))
    return {
        "registers": registers,
        "spilled": stack + local,
        "shared": shared,
        "warps_per_sm": warps_per_sm(registers, shared, variant.n_warps, target),
        "exponentials": len(re.findall(r"\bex2\.", ptx)),
        "float64_in_loops": sum(len(re.findall(_FLOAT64, line)) for loop in loops for line in loop),
        "each": [_each(variant, work, code, ptx) for work in variant.works],
    }


def _each(variant: Variant, work: Work, code: str, ptx: str) -> dict[str, float]:
    """What a unit of work takes."""
    n_threads = 32 * variant.n_warps
    if work.part == "exponentials":
        return per_exponential(code)
    if work.part == "pairs":
        return per_pair(code, work.n // n_threads, _functions(variant.kernel))
    n_units = work.n / n_threads
    if work.part == "loop":
        n_units *= unrolled(code, ptx)
    return per_unit(code, work.part, work.rare, n_units, work.passes)


def _functions(kernel: Any) -> dict[str, range]:
    """The lines of each function of a kernel's file that Triton compiles."""
    found = {}
    for name, one in vars(inspect.getmodule(kernel.fn)).items():
        if isinstance(one, triton.JITFunction) and one.fn.__module__ == kernel.fn.__module__:
            lines, first = inspect.getsourcelines(one.fn)
            found[name] = range(first, first + len(lines))
    return found


def _tell(tool: str, *arguments: str) -> str:
    done = subprocess.run([_TOOLS / tool, *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def warps_per_sm(registers: int, shared: int, warps: int, target: int) -> int:
    """How many warps of a kernel an SM can hold at once."""
    sm = gpu_rates.SMS[target]
    by_registers = sm.registers // (32 * warps * -(-registers // 8) * 8)
    by_shared = sm.shared // shared if shared else by_registers
    return warps * min(by_registers, by_shared, sm.warps // warps, sm.blocks)


def measure(targets: list[int], tell: Callable[[str], object]) -> dict[str, Any]:
    """All figures, as JSON-ready values."""
    kernels, works = {}, {}
    for variant in variants():
        kernels[variant.name] = found = {target: told(variant, target) for target in targets}
        tell(_shown(variant, found, targets[-1]))
        if variant.works:
            works[variant.name] = [asdict(work) for work in variant.works]
    return {"triton": triton.__version__, "works": works, "kernels": kernels}


def _shown(variant: Variant, found: dict[int, dict[str, Any]], target: int) -> str:
    """What a kernel becomes for a compute capability, for people."""
    one = found[target]
    lines = [
        f"{variant.name}: {one['registers']} registers, {one['spilled']} bytes spilled, "
        f"{one['shared']} bytes shared, {one['warps_per_sm']} warps an SM"
    ]
    for number, work in enumerate(variant.works):
        for use in work.n_bytes:
            roofline = Roofline.of(variant.kernel.__name__, asdict(work), use, found, number)
            on = roofline.on(target)
            each = ", ".join(f"{count:.1f} {kind}" for kind, count in on.each.items())
            lines.append(
                f"    {roofline.label}: each {work.unit} takes {each}, {roofline.n_bytes:.2g} "
                f"bytes; special functions {1e12 * on.special:.2f} ps, arithmetic "
                f"{1e12 * on.arithmetic:.2f} ps, memory {1e12 * on.memory:.2f} ps; bound by "
                f"{on.bound_by}, of which instructions leave {on.share:.0%}"
            )
    return "\n".join(lines)


def main() -> None:
    """Print the figures for people, then as JSON."""
    parser = arguments(__doc__)
    parser.add_argument(
        "--targets",
        type=integers,
        default=[80, 89, 90, 100],
        help="compute capabilities, without the point; default 80,89,90,100",
    )
    options = parser.parse_args()
    figures = measure(options.targets, lambda line: print(line, flush=True))
    publish(figures, options.output)


if __name__ == "__main__":
    start(main)
