"""What GPUs can do in a clock, by their data sheets and NVIDIA's tables; nothing is measured.

The CUDA C++ Programming Guide has the rates of instructions and the limits of an SM by compute
capability ("Arithmetic Instructions", "Technical Specifications"); data sheets have the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Sm:
    """One streaming multiprocessor.

    Attributes:
        special, float32, float64, integers, shuffles: results a clock, of threads; integers, and
            comparisons and choices of any numbers.
        words: of 32 bits, that threads load and store in a clock.
        issued: instructions a clock, of threads.
        registers, shared, warps, blocks: what it holds at most: 32-bit registers, bytes, warps,
            blocks.
    """

    float32: int
    float64: int
    shared: int
    warps: int
    blocks: int
    special: int = 16
    integers: int = 64
    shuffles: int = 32
    words: int = 32
    issued: int = 128
    registers: int = 65536


SMS: dict[int, Sm] = {
    80: Sm(float32=64, float64=32, shared=164 * 1024, warps=64, blocks=32),
    89: Sm(float32=128, float64=2, shared=100 * 1024, warps=48, blocks=24),
    90: Sm(float32=128, float64=64, shared=228 * 1024, warps=64, blocks=32),
    100: Sm(float32=128, float64=64, shared=228 * 1024, warps=64, blocks=32),
}
"""By compute capability, without the point."""


@dataclass(frozen=True)
class Gpu:
    """A GPU of a data sheet.

    Attributes:
        name: of the product.
        sms: how many streaming multiprocessors.
        float32: its peak, multiply-adds counted twice, a second.
        bytes: of its memory's bandwidth, a second.
    """

    name: str
    sms: int
    float32: float
    bytes: float


GPUS: dict[int, Gpu] = {
    80: Gpu("A100 80GB SXM", 108, 19.5e12, 2039e9),
    89: Gpu("L40S", 142, 91.6e12, 864e9),
    90: Gpu("H100 SXM", 132, 67e12, 3350e9),
    100: Gpu("B200", 148, 75e12, 8000e9),
}


def clock(target: int) -> float:
    """The clock, in Hz, that belongs to the peak of the data sheet."""
    return GPUS[target].float32 / (2 * SMS[target].float32 * GPUS[target].sms)


def exponentials(target: int) -> float:
    """Exponentials a second, if a GPU computed nothing else."""
    return clock(target) * SMS[target].special * GPUS[target].sms


def clocks(each: Mapping[str, float], target: int) -> dict[str, float]:
    """What instructions of a thread take of an SM, in clocks, by what they occupy.

    Args:
        each: how many, by kind; `benchmarks.disassembly.counts` has the kinds.
        target: a compute capability.
    """
    sm = SMS[target]
    rates = {
        "special": sm.special,
        "float32": sm.float32,
        "float64": sm.float64,
        "integers": sm.integers,
        "shuffles": sm.shuffles,
        "words": sm.words,
        "all": sm.issued,
    }
    return {kind: each.get(kind, 0.0) / rate for kind, rate in rates.items()}


def seconds(n_clocks: float, target: int) -> float:
    """Of so many clocks of an SM, if all SMs of a GPU share the work."""
    return n_clocks / (clock(target) * GPUS[target].sms)


def memory_seconds(n_bytes: float, target: int) -> float:
    """What memory takes to move so many bytes."""
    return n_bytes / GPUS[target].bytes
