"""What kernels of devices become, in tables: computed, and not measured."""

from collections.abc import Iterator
from typing import Any

from benchmarks import gpu_rates
from benchmarks.figures import read_results
from model.evaluation.tables import markdown

_PER = {
    "special": "special functions",
    "float32": "FP32",
    "shuffles": "shuffles",
    "loads": "loads",
    "words": "words",
    "all": "all",
}
_LEAST = {"relate": 5, "relate_whole": 5, "add_gradients": 9}
"""FP32 instructions that a pair and channel takes at least, beside its exponential; the README of
the relations counts them."""


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
    """What stands in the loops around exponentials, and what that leaves of their rate."""
    rows = [
        [
            "kernel",
            "GPU",
            *_PER.values(),
            "of bare exponentials",
            "of what arithmetic allows",
            "memory allows",
        ]
    ]
    below: list[str] = []
    for name, tile, target, one in _loops():
        loop, allowed = one["loop"], _by_arithmetic(name, target)
        if loop["share"] < _GOAL * allowed:
            below.append(f"`{name}`, {tile}, on the {gpu_rates.GPUS[target].name}")
        # While it decodes, each exponential needs a number of its own from memory.
        n_bytes = 2 if tile.endswith("bfloat16") else 4
        memory = ""
        if name.endswith(".relate"):
            memory = f"{gpu_rates.memory_share(n_bytes, target):.0%}"
        rows.append(
            [
                f"`{name}`, {tile}",
                gpu_rates.GPUS[target].name,
                *(f"{loop[what]:.1f}" for what in _PER),
                f"{loop['share']:.0%}",
                f"{loop['share'] / allowed:.0%}",
                memory,
            ]
        )
    return markdown(rows) + (
        "\nInstructions for each exponential, which is one of a pair and channel; words are of 32 "
        "bits, loaded and stored. Computed from machine code and data sheets, and not measured: a "
        f"bound, without waiting.\n\nBelow {_GOAL:.0%} of what arithmetic allows: "
        f"{'; '.join(below)}. All others reach it."
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


def _by_arithmetic(name: str, target: int) -> float:
    """What the rate of bare exponentials comes to if nothing but arithmetic is done."""
    float32 = _LEAST[name.rpartition(".")[2]]
    each = {"special": 1, "float32": float32, "shuffles": 0, "words": 0, "all": float32 + 1}
    return gpu_rates.share(each, target)


def _by_kernel() -> dict[str, dict[str, Any]]:
    kernels: dict[str, dict[str, Any]] = {}
    for name, targets in read_results("machine-code")["kernels"].items():
        kernel, _, tile = name.partition(", ")
        kernels.setdefault(kernel, {})[tile] = targets
    return kernels


def _loops() -> Iterator[tuple[str, str, int, Any]]:
    """Kernels with exponentials in loops, with the tiles of shipped models."""
    for name, tiles in sorted(_by_kernel().items()):
        for tile, targets in tiles.items():
            channels = next((one for one in tile.split(", ") if one.startswith("CHANNELS ")), "")
            if tile.startswith("OWN ") or ", OWN " in tile:  # for any number of channels
                channels = f"CHANNELS {read_results('machine-code')['channels']}"
            if channels not in ("CHANNELS 128", "CHANNELS 256"):
                continue
            if name.endswith(".relate") and ", aligned" not in tile:
                continue
            label = channels.replace("CHANNELS", "K") + ", bfloat16" * tile.endswith("bfloat16")
            for side, shown in (("OF_READERS 1", " of readers"), ("OF_READERS 0", " of memories")):
                label += shown * (side in tile)
            for target, one in targets.items():
                if one["loop"] and int(target) in (80, 90):
                    yield name, label, int(target), one
