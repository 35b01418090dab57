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
        special, float32, shuffles: results a clock, of threads.
        words: of 32 bits, that threads load and store in a clock.
        issued: instructions a clock, of threads.
        registers, shared, warps, blocks: what it holds at most: 32-bit registers, bytes, warps,
            blocks.
    """

    float32: int
    shared: int
    warps: int
    blocks: int
    special: int = 16
    shuffles: int = 32
    words: int = 32
    issued: int = 128
    registers: int = 65536


SMS: dict[int, Sm] = {
    80: Sm(float32=64, shared=164 * 1024, warps=64, blocks=32),
    89: Sm(float32=128, shared=100 * 1024, warps=48, blocks=24),
    90: Sm(float32=128, shared=228 * 1024, warps=64, blocks=32),
    100: Sm(float32=128, shared=228 * 1024, warps=64, blocks=32),
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


def share(each: Mapping[str, float], target: int) -> float:
    """What is left of that rate.

    Args:
        each: instructions for each exponential, "special", "float32", "shuffles", "all"; and
            "words", of 32 bits, that it loads and stores.
        target: a compute capability.
    """
    sm = SMS[target]
    clocks = max(
        each["special"] / sm.special,
        each["float32"] / sm.float32,
        each["shuffles"] / sm.shuffles,
        each["words"] / sm.words,
        each["all"] / sm.issued,
    )
    return 1 / sm.special / clocks


def memory_share(n_bytes: float, target: int) -> float:
    """What memory leaves of that rate, if each exponential reads so many bytes of its own."""
    return min(1.0, GPUS[target].bytes / n_bytes / exponentials(target))
