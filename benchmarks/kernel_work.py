"""The work of a kernel, in units that each take the same."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Work:
    """What a kernel does, and what that takes at least.

    Attributes:
        tile: what is told of the tile.
        unit: of work.
        n: units of a program, in a pass of what is counted.
        n_bytes: of each unit that have to come from memory or go there, by what the kernel is used
            for.
        least: instructions of a unit that no code can do without, by kind
            (`benchmarks.disassembly.counts`); none where that is nothing beside what it moves.
        part, rare, passes: what is counted; see `benchmarks.instruction_counts.per_unit`. Besides,
            part may be "exponentials" and "pairs" for the other functions there.
    """

    tile: str
    unit: str
    n: int
    n_bytes: Mapping[str, float]
    least: Mapping[str, float] = field(default_factory=dict)
    part: str = "kernel"
    rare: str = ""
    passes: int = 0
