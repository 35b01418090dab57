"""What kernels of devices become, in tables: computed, and not measured."""

from typing import Any

from benchmarks import gpu_rates
from benchmarks.figures import read_results
from benchmarks.gpu_rooflines import Roofline
from causalrn.model.tables import markdown

_KINDS = "special", "float32", "float64", "integers", "shuffles", "loads", "words", "all"
_GOAL = 0.75


def resources() -> str:
    """The kernels: registers, shared memory and warps of the tile that needs most of each."""
    rows = [["kernel", "tiles", "registers", "spilled bytes", "shared bytes", "warps an SM"]]
    for name, tiles in sorted(_by_kernel().items()):
        every = [one for tile in tiles.values() for one in tile.values()]
        registers, spilled, shared, warps = (
            [one[what] for one in every]
            for what in ("registers", "spilled", "shared", "warps_per_sm")
        )
        rows.append(
            [
                f"`{name}`",
                str(len(tiles)),
                f"{min(registers)} to {max(registers)}",
                str(max(spilled)),
                str(max(shared)),
                f"{min(warps)} to {max(warps)}",
            ]
        )
    targets = ", ".join(f"{one / 10:.1f}" for one in gpu_rates.GPUS)
    return markdown(rows) + f"\nCompiled for the compute capabilities {targets}; computed, not run."


def roofline() -> str:
    """What a unit of each kernel's work takes, and what that leaves of what bounds it."""
    rows = [
        [
            "kernel", "unit", "special", "FP32", "FP64", "integers", "shuffles", "loads", "words",
            "all", "bytes", "special functions, ps", "arithmetic, ps", "memory, ps", "bound by",
            "H100", "A100",
        ]
    ]  # fmt: skip
    below = []
    for one in _rooflines():
        here, there = one.on(90), one.on(80)
        rows.append(
            [
                one.label,
                one.unit,
                *(f"{here.each[kind]:.1f}" for kind in _KINDS),
                f"{one.n_bytes:.2g}",
                *(f"{1e12 * part:.2f}" for part in (here.special, here.arithmetic, here.memory)),
                here.bound_by,
                f"{here.share:.0%}",
                f"{there.share:.0%}",
            ]
        )
        if min(here.share, there.share) < _GOAL:
            below.append(one.label)
    h100, a100 = (gpu_rates.GPUS[target].name for target in (90, 80))
    return markdown(rows) + (
        "\nComputed from machine code and data sheets, and not measured. The shares are what "
        f"instructions leave of the bound on the {h100} and on the {a100}; all else is of the "
        f"former.\n\nBelow {_GOAL:.0%} on either: {'; '.join(below)}. All others reach it."
    )


def buckets() -> str:
    """Memory that small steps work on, by bucket."""
    found = read_results("gpu-buckets")
    every = {(one["rows"], one["longest"]): one for one in found["buckets"]}
    longest = sorted({key[1] for key in every})
    rows = [["rows", *(f"up to {one:,} memories" for one in longest)]]
    rows += [
        [str(n), *(f"{every[n, one]['bytes'] / 1e6:.1f}" for one in longest)]
        for n in sorted({key[0] for key in every})
    ]
    (kernels,) = {one["kernels"] for one in found["buckets"]}
    return markdown(rows) + (
        f"\nMegabytes, for `{found['checkpoint']}`; all buckets share the room of the largest. "
        f"Each stands for {kernels} kernels and one copy in either direction."
    )


def _by_kernel() -> dict[str, dict[str, Any]]:
    kernels: dict[str, dict[str, Any]] = {}
    for name, targets in read_results("machine-code")["kernels"].items():
        kernel, _, tile = name.partition(", ")
        kernels.setdefault(kernel, {})[tile] = targets
    return kernels


def _rooflines() -> list[Roofline]:
    found = read_results("machine-code")
    rooflines = [
        Roofline.of(name.partition(", ")[0], work, use, found["kernels"][name], number)
        for name, works in found["works"].items()
        for number, work in enumerate(works)
        for use in work["n_bytes"]
    ]
    return sorted(rooflines, key=lambda one: one.label)
