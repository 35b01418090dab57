"""What bounds a kernel on a GPU, and what its instructions leave of that: on paper."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks import gpu_rates

_ARITHMETIC = {
    "special": "special functions",
    "float32": "FP32",
    "float64": "FP64",
    "all": "instructions",
}


@dataclass(frozen=True)
class OnGpu:
    """What a unit of work takes on one GPU.

    Attributes:
        each: instructions by kind, as compiled.
        special, arithmetic, memory: seconds of a GPU, if nothing else took any: of special
            functions, as compiled; of all other instructions, as compiled, whichever kind takes
            longest; and of memory.
        bound_by, bound: what takes longest of memory and the instructions that no code can do
            without, and how long.
    """

    each: Mapping[str, float]
    special: float
    arithmetic: float
    memory: float
    bound_by: str
    bound: float

    @property
    def share(self) -> float:
        """What the instructions of a kernel leave of its bound."""
        return self.bound / max(self.bound, self.special, self.arithmetic)


@dataclass(frozen=True)
class Roofline:
    """A kernel, as it is used for something.

    Attributes:
        label: the kernel, what is told of its tile, and what it is used for.
        unit: of its work.
        n_bytes: that a unit has to move.
        least: instructions that it takes at least, by kind.
        found: of each compute capability, instructions that it takes.
    """

    label: str
    unit: str
    n_bytes: float
    least: Mapping[str, float]
    found: Mapping[int, Mapping[str, float]]

    @classmethod
    def of(
        cls, kernel: str, work: Mapping[str, Any], use: str, targets: Mapping[Any, Any], number: int
    ) -> "Roofline":
        """From the figures of `benchmarks.machine_code`.

        Args:
            kernel: its name.
            work: one of its works, as JSON.
            use: one of those for which the work tells its bytes.
            targets: what the kernel becomes for each compute capability.
            number: of the work among those of the kernel.
        """
        label = ", ".join(part for part in (f"`{kernel}`", work["tile"], use) if part)
        found = {int(target): one["each"][number] for target, one in targets.items()}
        return cls(label, work["unit"], work["n_bytes"][use], work["least"], found)

    def on(self, target: int) -> OnGpu:
        """On the GPU of a compute capability."""

        def seconds(each: Mapping[str, float]) -> dict[str, float]:
            found = gpu_rates.clocks(each, target)
            return {kind: gpu_rates.seconds(n, target) for kind, n in found.items()}

        each = self.found[target]
        compiled = seconds(each)
        special = compiled.pop("special")
        least = seconds({**self.least, "all": sum(self.least.values())})
        memory = gpu_rates.memory_seconds(self.n_bytes, target)
        bounds = {_ARITHMETIC[kind]: least[kind] for kind in _ARITHMETIC} | {"memory": memory}
        bound_by = max(bounds, key=lambda kind: bounds[kind])
        return OnGpu(each, special, max(compiled.values()), memory, bound_by, bounds[bound_by])
